#![no_main]

libfuzzer_sys::fuzz_target!(
    init: khonsu_fuzz::hush_panics(),
    |input: &[u8]| khonsu_fuzz::run_or_abort(khonsu_fuzz::import::run, input)
);
