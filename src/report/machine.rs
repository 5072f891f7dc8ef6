//! The machine that measured, and the build that ran on it.

use crate::kernels::Isa;
use serde::Serialize;

/// What times depend on beside the model and the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Name of the processor, where the system tells.
    pub processor: String,
    /// Architecture, as `x86_64`.
    pub architecture: String,
    /// Operating system.
    pub os: String,
    /// Threads that the system offers.
    pub threads: usize,
    /// Instructions that the kernels use: `portable`, `avx2`, `avx512` or `vnni`.
    pub instructions: String,
    /// Whether the library was compiled with optimisation (without debug assertions); without,
    /// times are worth little.
    pub optimised: bool,
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        let processor = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_string())
        });
        Self {
            processor: processor.unwrap_or_else(|| "unknown processor".into()),
            architecture: std::env::consts::ARCH.into(),
            os: std::env::consts::OS.into(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            instructions: format!("{:?}", Isa::best()).to_lowercase(),
            optimised: !cfg!(debug_assertions),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { processor, architecture, os, threads, instructions, optimised } = self;
        let threads = format!("{threads} thread{}", if *threads == 1 { "" } else { "s" });
        write!(f, "{processor} ({architecture}, {os}), {threads}, {instructions} instructions")?;
        f.write_str(if *optimised { "" } else { "; built without optimisation" })
    }
}
