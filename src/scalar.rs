//! The two number types that the crate computes in.

use ndarray::NdFloat;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// `f32` (training, inference) or `f64` (gradient checks and oracles). Sealed: kernels rely on
/// there being no other.
pub trait Scalar:
    sealed::Sealed + NdFloat + Default + std::iter::Sum + serde::Serialize + serde::de::DeserializeOwned
{
    /// Bytes of one number in a file.
    const BYTES: usize;
    /// The name that safetensors gives this type: `F32` or `F64`.
    const DTYPE: &'static str;

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
