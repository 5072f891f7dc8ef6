//! The two number types that the crate computes in.

use ndarray::NdFloat;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}

    /// A function of any [`Scalar`](super::Scalar), by its two forms.
    #[doc(hidden)]
    pub trait Forms {
        /// All of its arguments.
        type In<F: super::Scalar>;
        /// What it returns.
        type Out<F: super::Scalar>;

        /// The form of `f32`.
        fn f32(args: Self::In<f32>) -> Self::Out<f32>;
        /// The form of `f64`.
        fn f64(args: Self::In<f64>) -> Self::Out<f64>;
    }
}
#[doc(hidden)]
pub use sealed::Forms;

/// Defines a generic function whose body for `f32` is compiled in the crate that says so.
///
/// What is generic is compiled where it is used: without this, every program with a `Model<f32>`
/// would compile the loops of the kernels again. The arguments go through one tuple, so all
/// lifetimes are one, `'a`; what is turned into it must be named.
#[doc(hidden)]
#[macro_export]
macro_rules! __compiled_here {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<F>($($arg:ident: $kind:ty),* $(,)?) $(-> $out:ty)? = $body:path) => {
        $(#[$meta])*
        #[allow(
            clippy::too_many_arguments,
            clippy::type_complexity,
            clippy::extra_unused_lifetimes,
            reason = "those of the body"
        )]
        $vis fn $name<'a, F: $crate::scalar::Scalar>($($arg: $kind),*) $(-> $out)? {
            struct Function<'a>(std::marker::PhantomData<&'a ()>);
            impl<'a> $crate::scalar::Forms for Function<'a> {
                type In<F: $crate::scalar::Scalar> = ($($kind,)*);
                type Out<F: $crate::scalar::Scalar> = $crate::scalar::compiled_here!(@out $($out)?);
                #[inline(never)]
                fn f32(($($arg,)*): Self::In<f32>) -> Self::Out<f32> {
                    $body($($arg),*)
                }
                // Compiled where it is used: few programs need it, and all would wait for it.
                #[inline]
                fn f64(($($arg,)*): Self::In<f64>) -> Self::Out<f64> {
                    $body($($arg),*)
                }
            }
            F::call::<Function<'a>>(($($arg,)*))
        }
    };
    (@out) => { () };
    (@out $out:ty) => { $out };
}
#[doc(hidden)]
pub use __compiled_here as compiled_here;

/// `f32` (training, inference) or `f64` (gradient checks and oracles). Sealed: kernels rely on
/// there being no other.
pub trait Scalar:
    sealed::Sealed + NdFloat + Default + std::iter::Sum + serde::Serialize + serde::de::DeserializeOwned
{
    /// Bytes of one number in a file.
    const BYTES: usize;
    /// The name that safetensors gives this type: `F32` or `F64`.
    const DTYPE: &'static str;

    /// Calls the form of this type.
    #[doc(hidden)]
    fn call<T: Forms>(args: T::In<Self>) -> T::Out<Self>;
    /// The nearest number of this type.
    fn of(value: f64) -> Self;
    /// The same number as `f64`, exactly.
    fn as_f64(self) -> f64;
    /// Views the slice as `f32` if that is what it holds.
    fn as_f32(slice: &[Self]) -> Option<&[f32]>;
    /// Views the mutable slice as `f32` if that is what it holds.
    fn as_f32_mut(slice: &mut [Self]) -> Option<&mut [f32]>;
    /// Appends the little-endian bytes of `slice` to `out`.
    fn write_le(slice: &[Self], out: &mut Vec<u8>);
    /// Reads as many numbers as `bytes` holds; a trailing part of a number is ignored.
    fn read_le(bytes: &[u8]) -> Vec<Self>;
}

macro_rules! bytes_of {
    ($t:ty) => {
        fn write_le(slice: &[Self], out: &mut Vec<u8>) {
            out.reserve(std::mem::size_of_val(slice));
            for value in slice {
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
        fn read_le(bytes: &[u8]) -> Vec<Self> {
            bytes.as_chunks().0.iter().map(|chunk| <$t>::from_le_bytes(*chunk)).collect()
        }
    };
}

impl Scalar for f32 {
    const BYTES: usize = 4;
    const DTYPE: &'static str = "F32";
    fn call<T: Forms>(args: T::In<Self>) -> T::Out<Self> {
        T::f32(args)
    }
    fn of(value: f64) -> Self {
        value as f32
    }
    fn as_f64(self) -> f64 {
        f64::from(self)
    }
    fn as_f32(slice: &[Self]) -> Option<&[f32]> {
        Some(slice)
    }
    fn as_f32_mut(slice: &mut [Self]) -> Option<&mut [f32]> {
        Some(slice)
    }
    bytes_of!(f32);
}

impl Scalar for f64 {
    const BYTES: usize = 8;
    const DTYPE: &'static str = "F64";
    fn call<T: Forms>(args: T::In<Self>) -> T::Out<Self> {
        T::f64(args)
    }
    fn of(value: f64) -> Self {
        value
    }
    fn as_f64(self) -> f64 {
        self
    }
    fn as_f32(_: &[Self]) -> Option<&[f32]> {
        None
    }
    fn as_f32_mut(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }
    bytes_of!(f64);
}
