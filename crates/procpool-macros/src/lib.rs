//! The `#[procpool::task]` attribute. Use it by way of the crate `procpool`, which re-exports it.
//!
//! The attribute leaves the function as it is and adds one entry to the registry of tasks, in which workers look
//! functions up by name. `signature` says which functions can be tasks, `registration` what they expand to. Nothing
//! here runs in a worker.

use proc_macro::TokenStream;

mod registration;
mod signature;

/// Registers a function, so that workers find it by its name and not by its place in the executable.
///
/// Every `fn(A) -> R` can be given to a pool as it is: a worker, which runs the caller's own executable, looks for the
/// function at the place that it has there. A registered function is sent by a name instead, which `Pool::dump` shows.
///
/// The function itself does not change. It is called as before, and is given to a pool as before:
///
/// ```ignore
/// #[procpool::task]
/// fn area((width, height): (u64, u64)) -> u64 {
///     width * height
/// }
///
/// let pool = procpool::Pool::new(2)?;
/// assert_eq!(pool.apply(area, (3, 4))?, 12);
/// assert_eq!(area((3, 4)), 12);
/// ```
///
/// # The name
///
/// A function's name is its path, here `my_crate::area`. Two functions that are written in the bodies of different
/// functions of one module have the same path: then both go by their places. Give such a function a name of its own,
/// and likewise one that keeps its name wherever it moves:
///
/// ```ignore
/// #[procpool::task(name = "geometry.area")]
/// fn area((width, height): (u64, u64)) -> u64 {
///     width * height
/// }
/// ```
///
/// # What can be a task
///
/// A free function with exactly one argument. Several arguments go into a tuple, and none is written `_: ()`. The
/// argument and the result are owned types that serde can encode and decode. There are no generic parameters and no
/// `self`, and the function is neither `async`, nor `unsafe`, nor `extern`. The macro says so where it is not. A
/// function of an `impl` cannot be told from a free one here, and ends in errors of the compiler.
#[proc_macro_attribute]
pub fn task(options: TokenStream, item: TokenStream) -> TokenStream {
    registration::expand(options.into(), &item.into()).into()
}
