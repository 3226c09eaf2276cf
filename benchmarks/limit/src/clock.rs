//! The clock of the runs: the wall's, or, on a machine that others use, the processor time of this program.

use std::sync::OnceLock;
use std::time::Instant;

/// Seconds since some moment; `BENCH_CLOCK=cpu` asks for processor time.
pub fn now() -> f64 {
    static BEGAN: OnceLock<Option<Instant>> = OnceLock::new();
    let began = BEGAN.get_or_init(|| {
        let cpu = std::env::var_os("BENCH_CLOCK").is_some_and(|clock| clock == "cpu");
        (!cpu).then(wall)
    });
    began.map_or_else(processor, |began| began.elapsed().as_secs_f64())
}

#[allow(clippy::disallowed_methods, reason = "the core reads no clock; this is what the clock is for")]
fn wall() -> Instant {
    Instant::now()
}

#[cfg(unix)]
fn processor() -> f64 {
    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanos: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
    }
    const CLOCK_PROCESS_CPUTIME_ID: i32 = if cfg!(target_os = "macos") { 12 } else { 2 };
    let mut time = Timespec { seconds: 0, nanos: 0 };
    // SAFETY: the kernel fills a structure of its own layout that lives here.
    unsafe { clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.seconds as f64 + time.nanos as f64 / 1e9
}

#[cfg(not(unix))]
fn processor() -> f64 {
    panic!("BENCH_CLOCK=cpu needs a Unix clock")
}
