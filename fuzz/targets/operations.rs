#![no_main]

use khonsu_fuzz::panics;

libfuzzer_sys::fuzz_target!(
    init: panics::hush(),
    |input: &[u8]| panics::finish_or_abort(|| khonsu_fuzz::operations::run(input))
);
