//! What the process holds, and what it may hold.

use std::fs::read_to_string;

/// Bytes of memory that this process holds now, where the system says so.
pub fn resident() -> Option<u64> {
    let text = read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * page_size())
}

/// Largest resident set of this process so far, in bytes.
pub fn peak() -> u64 {
    // SAFETY: getrusage fills the struct it is given and has no other effect
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    // Linux counts in KiB, macOS in bytes
    usage.ru_maxrss as u64 * if cfg!(target_os = "macos") { 1 } else { 1024 }
}

/// What the process may have: the container's limit, or else the machine's memory.
pub fn available() -> Option<(u64, &'static str)> {
    let limit = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limit.iter().filter_map(|file| read_to_string(file).ok()?.trim().parse().ok()).min();
    // SAFETY: sysconf only reads
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    let machine = u64::try_from(pages).ok().map(|pages| pages * page_size());
    match (limit, machine) {
        (Some(limit), machine) if machine.is_none_or(|machine| limit < machine) => Some((limit, "the container's")),
        (_, machine) => machine.map(|machine| (machine, "the machine's")),
    }
}

fn page_size() -> u64 {
    // SAFETY: sysconf only reads
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_holds_less_than_its_peak_and_its_peak_less_than_there_is() {
        let (peak, (most, _)) = (super::peak(), super::available().unwrap());
        assert!(peak > 1 << 20 && peak < most, "peak {peak}, available {most}");
        if let Some(now) = super::resident() {
            assert!(now > 1 << 20, "{now}");
        }
    }
}
