//! Which instructions the kernels use: chosen once, at run time.
//!
//! A published crate is compiled for plain x86-64, so faster forms are compiled with
//! `#[target_feature]` and picked by what the processor reports. There are two ways to have them:
//! a family of kernels keeps a static [`Levels`] of functions, whose forms are written out register
//! by register in its `x86.rs`; or [`by_level`] compiles one and the same text for another level.
//! No kernel is named here.

use std::sync::OnceLock;

/// Numbers that one `f32` register holds in the forms that are compiled for AVX2.
pub(super) const LANES: usize = 8;

/// `f` of 0, 1, 2, …. The standard library's may stay a function of its own, which is then compiled
/// for the plainest processor and called for every register.
#[inline(always)]
pub(super) fn array<T: Copy + Default, const N: usize>(f: impl Fn(usize) -> T) -> [T; N] {
    let mut all = [T::default(); N];
    for (k, one) in all.iter_mut().enumerate() {
        *one = f(k);
    }
    all
}

/// A level of instructions; a later one is never slower where the processor has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[doc(hidden)]
pub enum Isa {
    /// What the crate is compiled for.
    Portable,
    /// AVX2 and FMA: 8 numbers at once.
    Avx2,
    /// AVX-512F: 16 numbers at once.
    Avx512,
    /// AVX-512 with the byte instructions and the integer dot products of VNNI.
    Vnni,
}

impl Isa {
    /// Every level, the plainest first.
    pub const ALL: [Isa; 4] = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Vnni];

    /// The best level of this processor.
    pub fn best() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            *Isa::ALL
                .iter()
                .rev()
                .find(|isa| isa.available())
                .expect("the portable level is always there")
        })
    }

    /// Whether this processor has the level.
    pub fn available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            // Its integer kernels are those of AVX2.
            Isa::Avx512 => is_x86_feature_detected!("avx512f") && Isa::Avx2.available(),
            #[cfg(target_arch = "x86_64")]
            Isa::Vnni => {
                Isa::Avx512.available()
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

/// What each level of instructions offers, `T` being the functions of one family of kernels; the
/// family has a static of it.
pub(super) struct Levels<T: 'static> {
    pub(super) portable: T,
    #[cfg(target_arch = "x86_64")]
    pub(super) avx2: T,
    #[cfg(target_arch = "x86_64")]
    pub(super) avx512: T,
    #[cfg(target_arch = "x86_64")]
    pub(super) vnni: T,
}

impl<T> Levels<T> {
    /// The functions of one level.
    ///
    /// # Panics
    /// If the processor does not have it: this is what makes them safe to call.
    pub(super) fn at(&self, isa: Isa) -> &T {
        assert!(isa.available(), "this processor has no {isa:?}");
        match isa {
            Isa::Portable => &self.portable,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &self.avx2,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &self.avx512,
            #[cfg(target_arch = "x86_64")]
            Isa::Vnni => &self.vnni,
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("not available"),
        }
    }
}

/// That the processor has AVX2 and FMA. It has no other constructor than the question, so whoever
/// holds one may use those instructions: what takes a proof by value cannot be told a lie by its
/// caller.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx2Fma(());

impl Avx2Fma {
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(super) fn detected() -> Option<Self> {
        Isa::Avx2.available().then_some(Self(()))
    }
}

/// What code that is compiled for several levels is told of the processor: nothing, or a proof.
pub(super) trait Known: Copy {
    /// Whether [`Known::avx2_fma`] gives a proof, for the compiler.
    const IS_AVX2_FMA: bool;

    fn avx2_fma(self) -> Option<Avx2Fma>;
}

/// Nothing is known: no instruction is used by name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unknown;

impl Known for Unknown {
    const IS_AVX2_FMA: bool = false;

    #[inline(always)]
    fn avx2_fma(self) -> Option<Avx2Fma> {
        None
    }
}

impl Known for Avx2Fma {
    const IS_AVX2_FMA: bool = true;

    #[inline(always)]
    fn avx2_fma(self) -> Option<Avx2Fma> {
        Some(self)
    }
}

/// Defines a function that runs another one, which must be `#[inline(always)]`, compiled for a
/// level: the same code in wider vectors. With `known`, the other one takes what is known of the
/// processor first, as [`Known`].
macro_rules! by_level {
    ($vis:vis fn $name:ident<F $(, $more:ident: $bound:path)?>($($arg:ident: $kind:ty),* $(,)?) $(-> $out:ty)? = $body:ident $(, $known:ident)?) => {
        #[allow(unsafe_code)]
        $vis fn $name<F: crate::scalar::Scalar $(, $more: $bound)?>(isa: crate::kernels::simd::Isa, $($arg: $kind),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2<F: crate::scalar::Scalar $(, $more: $bound)?>(
                    _proof: crate::kernels::simd::Avx2Fma,
                    $($arg: $kind),*
                ) $(-> $out)? {
                    crate::kernels::simd::by_level!(@call $body $($known)? ; _proof ; $($arg),*)
                }
                if isa >= crate::kernels::simd::Isa::Avx2 {
                    assert!(isa.available(), "this processor has no {isa:?}");
                    let proof = crate::kernels::simd::Avx2Fma::detected().expect("every later level has it");
                    // SAFETY: the proof says that the processor has the features.
                    return unsafe { avx2(proof, $($arg),*) };
                }
            }
            let _ = isa;
            crate::kernels::simd::by_level!(@call $body $($known)? ; crate::kernels::simd::Unknown ; $($arg),*)
        }
    };
    (@call $body:ident ; $proof:expr ; $($arg:ident),*) => { $body($($arg),*) };
    (@call $body:ident known ; $proof:expr ; $($arg:ident),*) => { $body($proof, $($arg),*) };
}
pub(super) use by_level;

/// Defines a function of what is [`Known`] and of a number of heads `H` that runs another one,
/// which must be `#[inline(always)]`: in place where AVX2 is proven, and by a call where nothing is
/// known. A call costs a small graph a tenth of its attention; a copy in each caller costs every
/// build, and the portable form pays the call.
macro_rules! called_if_portable {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<F, const $h:ident $(, $more:ident: $bound:path)?>($($arg:ident: $kind:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        #[inline(always)]
        $vis fn $name<
            K: crate::kernels::simd::Known,
            F: crate::scalar::Scalar $(, $more: $bound)?,
            const $h: usize,
        >(
            known: K,
            $($arg: $kind),*
        ) {
            #[inline(never)]
            fn portable<F: crate::scalar::Scalar $(, $more: $bound)?, const $h: usize>($($arg: $kind),*) {
                $body::<F $(, $more)?, $h>(crate::kernels::simd::Unknown, $($arg),*)
            }
            // A constant first: the other arm is not even compiled.
            if K::IS_AVX2_FMA && let Some(proof) = known.avx2_fma() {
                $body::<F $(, $more)?, $h>(proof, $($arg),*)
            } else {
                portable::<F $(, $more)?, $h>($($arg),*)
            }
        }
    };
}
pub(super) use called_if_portable;
