//! No ELF file, under a right checksum, makes the loader panic or write
//! outside the memory that it asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loader::image::{Image, seal};

fuzz_target!(|elf: &[u8]| {
    let file = seal(elf);
    if let Ok(image) = Image::parse(&file) {
        let mut memory = vec![0; image.plan.size as usize];
        image.load(&mut memory, 0x7f60_0000).expect("the plan is enough");
    }
});
