//! Compiles `proto/` without `protoc`: protox parses, tonic generates.
//!
//! The descriptors are written beside the generated code, for reflection and for the tests that
//! enumerate every RPC.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=proto");
    // Embedded by a macro, which does not tell the compiler what it read.
    println!("cargo:rerun-if-changed=web/dist");
    let mut files = Vec::new();
    find_protos(Path::new("proto"), &mut files)?;
    files.sort();

    let descriptors = protox::compile(&files, ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;

    tonic_prost_build::configure()
        // Without the convenience constructor `connect`, which would clash with the RPC of that name.
        .build_transport(false)
        .bytes(".")
        .codec_path("crate::wire::ProtobufCodec")
        // Events on their way to a reader stay the bytes they were stored as.
        .extern_path(".baton.v1.EventBatch", "crate::wire::EventBatch")
        // And on their way into the log they stay the bytes that they came as.
        .extern_path(".baton.link.v1.Record", "crate::wire::LinkRecord")
        .compile_fds(descriptors)?;
    Ok(())
}

fn find_protos(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            find_protos(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            files.push(path);
        }
    }
    Ok(())
}
