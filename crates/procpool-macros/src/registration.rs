//! What the attribute expands to: the function as it was, and one entry in the registry.
//!
//! A function that cannot be a task stays where it is as well, beside the error, so that its callers do not add
//! errors of their own.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Error, Ident, Item, ItemFn, LitStr, Token};

use crate::signature::TaskTypes;

/// What stands in the parentheses of `#[procpool::task(...)]`.
struct Options {
    name: Option<LitStr>,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.is_empty() {
            return Ok(Options { name: None });
        }
        let option: Ident = input.parse()?;
        if option != "name" {
            return Err(Error::new(option.span(), "the only option of a task is `name = \"...\"`"));
        }
        input.parse::<Token![=]>()?;
        let name: LitStr = input.parse()?;
        if name.value().is_empty() {
            return Err(Error::new(name.span(), "a task's name cannot be empty"));
        }
        input.parse::<Option<Token![,]>>()?;
        Ok(Options { name: Some(name) })
    }
}

/// Expands the attribute with these options on this item.
pub(crate) fn expand(options: TokenStream, item: &TokenStream) -> TokenStream {
    let addition = match registration(options, item.clone()) {
        Ok(registration) => registration,
        Err(error) => error.into_compile_error(),
    };
    quote!(#item #addition)
}

fn registration(options: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let function = match syn::parse2(item)? {
        Item::Fn(function) => function,
        other => return Err(Error::new_spanned(other, "a task is a free function with a body")),
    };
    let options: Options = syn::parse2(options)?;
    let types = TaskTypes::of(&function.sig)?;
    Ok(entry(&function, &types, options.name))
}

/// The registry's entry, in a scope of its own so that its name meets no other. It exists under the same conditions as
/// the function.
fn entry(function: &ItemFn, types: &TaskTypes, name: Option<LitStr>) -> TokenStream {
    let conditions = function.attrs.iter().filter(|attribute| is_condition(attribute));
    let identifier = &function.sig.ident;
    let TaskTypes { argument, result } = types;
    let name = match name {
        Some(name) => quote!(#name),
        None => {
            let own_name = identifier.unraw().to_string();
            quote!(::core::concat!(::core::module_path!(), "::", #own_name))
        }
    };
    quote! {
        #(#conditions)*
        #[allow(deprecated)]
        const _: () = {
            #[::procpool::__private::linkme::distributed_slice(::procpool::__private::TASKS)]
            #[linkme(crate = ::procpool::__private::linkme)]
            static PROCPOOL_TASK: ::procpool::__private::NamedTask =
                ::procpool::__private::NamedTask::new::<#argument, #result>(#name, #identifier);
        };
    }
}

fn is_condition(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(options: &str, item: &str) -> syn::Result<syn::File> {
        syn::parse2(expand(options.parse().unwrap(), &item.parse().unwrap()))
    }

    fn text_of(item: &Item) -> String {
        quote!(#item).to_string()
    }

    /// The entry that a function gets, as text with one space between any two tokens.
    #[track_caller]
    fn entry_of(options: &str, item: &str) -> String {
        let file = expanded(options, item).unwrap();
        let [Item::Fn(_), entry @ Item::Const(_)] = file.items.as_slice() else {
            panic!("a function and an entry, not {}", quote!(#file));
        };
        text_of(entry)
    }

    #[track_caller]
    fn assert_refused(options: &str, item: &str, reason: &str) {
        let file = expanded(options, item).unwrap();
        let Some(Item::Macro(refusal)) = file.items.last() else {
            panic!("an error, not {}", quote!(#file));
        };
        let refusal = quote!(#refusal).to_string();
        assert!(refusal.contains("compile_error") && refusal.contains(reason), "refused with: {refusal}");
    }

    #[test]
    fn the_function_stays_as_it_is() {
        let function = "#[inline] pub(crate) fn double(mut x: u64) -> u64 { x *= 2; x }";
        let file = expanded("", function).unwrap();
        let original: Item = syn::parse_str(function).unwrap();
        assert_eq!(text_of(&file.items[0]), text_of(&original));
    }

    #[test]
    fn the_entry_names_the_path_the_types_and_the_function() {
        let entry = entry_of("", "fn double(x: u64) -> Vec<u8> { vec![] }");
        let expected = quote! {
            ::procpool::__private::NamedTask::new::<u64, Vec<u8> >(
                ::core::concat!(::core::module_path!(), "::", "double"),
                double
            );
        };
        assert!(entry.contains(&expected.to_string()), "{entry}");
    }

    #[test]
    fn the_entry_lies_in_the_registry_of_procpool_and_needs_no_linkme_in_the_users_crate() {
        let entry = entry_of("", "fn double(x: u64) -> u64 { x }");
        let slice = quote!(#[::procpool::__private::linkme::distributed_slice(::procpool::__private::TASKS)]);
        let linkme = quote!(#[linkme(crate = ::procpool::__private::linkme)]);
        assert!(entry.contains(&slice.to_string()) && entry.contains(&linkme.to_string()), "{entry}");
    }

    #[test]
    fn a_given_name_takes_the_place_of_the_path() {
        let entry = entry_of("name = \"geometry.area\"", "fn area(x: u64) -> u64 { x }");
        assert!(entry.contains("(\"geometry.area\" , area)"), "{entry}");
        assert!(!entry.contains("module_path"), "{entry}");
    }

    #[test]
    fn a_raw_identifier_is_registered_without_its_prefix() {
        let entry = entry_of("", "fn r#match(x: u64) -> u64 { x }");
        assert!(entry.contains("\"match\") , r#match)"), "{entry}");
    }

    #[test]
    fn the_entry_exists_under_the_same_conditions_as_the_function() {
        let entry = entry_of("", "#[cfg(unix)] #[inline] fn double(x: u64) -> u64 { x }");
        assert!(entry.starts_with("# [cfg (unix)]"), "{entry}");
        assert!(!entry.contains("inline"), "{entry}");
    }

    #[test]
    fn a_function_that_cannot_be_a_task_stays_beside_the_error() {
        let file = expanded("", "fn nothing() {}").unwrap();
        assert!(matches!(file.items.as_slice(), [Item::Fn(_), Item::Macro(_)]));
        assert_refused("", "fn nothing() {}", "exactly one argument");
    }

    #[test]
    fn an_item_that_is_no_function_is_refused() {
        assert_refused("", "struct Task;", "a task is a free function");
    }

    #[test]
    fn an_unknown_option_an_empty_name_and_a_name_that_is_no_text_are_refused() {
        let function = "fn double(x: u64) -> u64 { x }";
        assert_refused("nom = \"a\"", function, "only option");
        assert_refused("name = \"\"", function, "cannot be empty");
        assert_refused("name = 3", function, "string literal");
        assert_refused("name = \"a\", name = \"b\"", function, "unexpected token");
    }
}
