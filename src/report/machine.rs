//! The machine that measured.

/// Processor and number of threads, as a report names them.
pub(super) fn describe() -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_string())
    });
    format!("{} ({}), {threads} threads", cpu.unwrap_or_else(|| "unknown processor".into()), std::env::consts::ARCH)
}
