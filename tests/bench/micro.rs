//! What the pure code costs.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

#[divan::bench]
fn nothing() -> u32 {
    divan::black_box(3) + 1
}
