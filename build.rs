//! Linker options.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // A megabyte of relocations, read whole at each start, becomes ten kilobytes. Linkers that do not
    // know it (before binutils 2.38) say so and go on; glibc knows it since 2.36.
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo tells a build script by it"
    )]
    let env = std::env::var("CARGO_CFG_TARGET_ENV");
    if env.is_ok_and(|env| env == "gnu") {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
