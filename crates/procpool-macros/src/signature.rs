//! Which functions can be tasks.
//!
//! A task is called in another process, with an argument that was encoded in this one. So it has one argument and one
//! result, both of types that have a name and own what they hold. Every refusal points at the part of the signature that
//! is in the way and says what to write instead; all of a function's faults are reported at once.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::visit::Visit;
use syn::{Error, FnArg, Lifetime, ReturnType, Safety, Signature, Type, TypeImplTrait, TypeReference};

/// What the registry needs to know of a function: its one argument's type and its result's.
pub(crate) struct TaskTypes {
    pub(crate) argument: TokenStream,
    pub(crate) result: TokenStream,
}

impl TaskTypes {
    /// Reads the types from a function's signature, or says why it cannot be a task.
    pub(crate) fn of(signature: &Signature) -> Result<Self, Error> {
        let mut faults = Faults::default();
        faults.look_at_qualifiers(signature);
        let argument = faults.look_at_arguments(signature);
        let result = faults.look_at_result(&signature.output);
        match (faults.found, argument) {
            (None, Some(argument)) => Ok(TaskTypes { argument: quote!(#argument), result }),
            (Some(error), _) => Err(error),
            (None, None) => unreachable!("a signature without its one argument is a fault"),
        }
    }
}

/// All that is wrong with a signature so far, as one error with many places.
#[derive(Default)]
struct Faults {
    found: Option<Error>,
}

impl Faults {
    fn add(&mut self, place: impl ToTokens, message: &str) {
        self.add_error(Error::new_spanned(place, message));
    }

    fn add_error(&mut self, error: Error) {
        match &mut self.found {
            Some(found) => found.combine(error),
            None => self.found = Some(error),
        }
    }

    fn look_at_qualifiers(&mut self, signature: &Signature) {
        if let Some(keyword) = &signature.asyncness {
            self.add(
                keyword,
                "a task cannot be `async`: its worker runs nothing else meanwhile, so let it block",
            );
        }
        if let Safety::Unsafe(keyword) = &signature.safety {
            self.add(
                keyword,
                "a task cannot be `unsafe`: a worker calls it, and knows nothing of what the caller must uphold",
            );
        }
        if let Some(abi) = &signature.abi {
            self.add(
                abi,
                "a task cannot be `extern`: a worker calls it the way Rust calls its own functions",
            );
        }
        if !signature.generics.params.is_empty() {
            self.add(
                &signature.generics.params,
                "a task cannot be generic: its name must stand for one function, so write one task for each type",
            );
        }
    }

    fn look_at_arguments<'a>(&mut self, signature: &'a Signature) -> Option<&'a Type> {
        if let Some(receiver) = signature.receiver() {
            self.add(
                receiver,
                "a task cannot be a method: write a free function, and give it what it needs as its argument",
            );
            return None;
        }
        let mut types = signature.inputs.iter().filter_map(|input| match input {
            FnArg::Typed(typed) => Some(&*typed.ty),
            FnArg::Receiver(_) => None,
        });
        match (types.next(), types.next()) {
            (Some(argument), None) => {
                self.look_at_type(argument, "argument");
                Some(argument)
            }
            (None, _) => {
                let place = signature.paren_token.span.join();
                self.add_error(Error::new(
                    place,
                    "a task takes exactly one argument: write `_: ()` if it needs none",
                ));
                None
            }
            (Some(_), Some(_)) => {
                self.add(
                    &signature.inputs,
                    "a task takes exactly one argument: take a tuple, as in `(a, b): (u64, u64)`",
                );
                None
            }
        }
    }

    fn look_at_result(&mut self, output: &ReturnType) -> TokenStream {
        let ReturnType::Type(_, result) = output else {
            return quote!(());
        };
        if let Type::Never(never) = &**result {
            self.add(never, "a task must return: leave the `!` out, and the result is `()`");
        }
        self.look_at_type(result, "result");
        quote!(#result)
    }

    fn look_at_type(&mut self, whole: &Type, role: &'static str) {
        OwnedType { faults: self, role }.visit_type(whole);
    }
}

/// A walk through one type, to the parts that a worker could neither name nor own.
struct OwnedType<'a> {
    faults: &'a mut Faults,
    role: &'static str,
}

impl OwnedType<'_> {
    fn borrowed(&mut self, place: impl ToTokens) {
        let message = format!(
            "a task's {} cannot borrow: it comes from another process, so use an owned type \
             (`String` for `&str`, `Vec<T>` for `&[T]`)",
            self.role
        );
        self.faults.add(place, &message);
    }
}

impl<'ast> Visit<'ast> for OwnedType<'_> {
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        self.borrowed(reference);
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident != "static" {
            self.borrowed(lifetime);
        }
    }

    fn visit_type_impl_trait(&mut self, unnamed: &'ast TypeImplTrait) {
        let message = format!("a task's {} cannot be `impl Trait`: name the type itself", self.role);
        self.faults.add(unnamed, &message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(function: &str) -> Result<(String, String), Vec<String>> {
        let function: syn::ItemFn = syn::parse_str(function).expect("the test's function is one");
        match TaskTypes::of(&function.sig) {
            Ok(types) => Ok((types.argument.to_string(), types.result.to_string())),
            Err(error) => Err(error.into_iter().map(|fault| fault.to_string()).collect()),
        }
    }

    #[track_caller]
    fn assert_refused(function: &str, reason: &str) {
        let faults = types(function).expect_err("this function must not become a task");
        assert_eq!(faults.len(), 1, "one fault for {function}, not {faults:?}");
        assert!(faults[0].contains(reason), "{function} is refused with: {}", faults[0]);
    }

    #[test]
    fn the_one_argument_and_the_result_are_read_as_they_are_written() {
        assert_eq!(types("fn f(x: u8) -> u16 { 0 }"), Ok(("u8".into(), "u16".into())));
        assert_eq!(types("fn f((a, b): (u8, u8)) -> [u8; 2] { [a, b] }").unwrap().0, "(u8 , u8)");
    }

    #[test]
    fn a_function_that_returns_nothing_has_the_unit_as_its_result() {
        assert_eq!(types("fn f(x: u8) {}"), Ok(("u8".into(), "()".into())));
    }

    #[test]
    fn a_constant_function_can_be_a_task() {
        assert!(types("const fn f(x: u8) -> u8 { x }").is_ok());
    }

    #[test]
    fn a_type_with_the_static_lifetime_owns_what_it_holds() {
        assert!(types("fn f(x: Cow<'static, str>) -> u8 { 0 }").is_ok());
    }

    #[test]
    fn no_argument_and_several_are_both_refused_with_what_to_write() {
        assert_refused("fn f() {}", "write `_: ()`");
        assert_refused("fn f(a: u8, b: u8) {}", "take a tuple");
    }

    #[test]
    fn a_method_is_refused() {
        assert_refused("fn f(&self) {}", "cannot be a method");
        assert_refused("fn f(self: Box<Self>, x: u8) {}", "cannot be a method");
    }

    #[test]
    fn generic_parameters_are_refused() {
        assert_refused("fn f<T>(x: T) {}", "cannot be generic");
        assert_refused("fn f<const N: usize>(x: [u8; N]) {}", "cannot be generic");
    }

    #[test]
    fn an_unnamed_type_is_refused_as_argument_and_as_result() {
        assert_refused("fn f(x: impl Clone) {}", "argument cannot be `impl Trait`");
        assert_refused("fn f(x: u8) -> impl Clone { x }", "result cannot be `impl Trait`");
    }

    #[test]
    fn async_unsafe_and_extern_functions_are_refused() {
        assert_refused("async fn f(x: u8) {}", "cannot be `async`");
        assert_refused("unsafe fn f(x: u8) {}", "cannot be `unsafe`");
        assert_refused("extern \"C\" fn f(x: u8) {}", "cannot be `extern`");
    }

    #[test]
    fn a_borrow_is_refused_however_deep_it_hides() {
        assert_refused("fn f(x: &str) {}", "argument cannot borrow");
        assert_refused("fn f(x: Vec<(u8, &'static [u8])>) {}", "argument cannot borrow");
        assert_refused("fn f(x: Cow<'_, str>) {}", "argument cannot borrow");
        assert_refused("fn f(x: u8) -> Option<&'static str> { None }", "result cannot borrow");
    }

    #[test]
    fn a_function_that_never_returns_is_refused() {
        assert_refused("fn f(x: u8) -> ! { loop {} }", "must return");
    }

    #[test]
    fn all_faults_of_a_function_are_reported_at_once() {
        let faults = types("async unsafe fn f(a: u8, b: u8) -> &'static str { \"\" }").unwrap_err();
        assert_eq!(faults.len(), 4, "{faults:?}");
    }
}
