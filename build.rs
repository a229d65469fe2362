<<<<<<< HEAD
//! Compiles every file under `proto/` into Rust, without `protoc`.
//!
//! What it leaves in `OUT_DIR`:
//! - `proto.rs`: one nested module a package (`baton::v1`, `baton::link::v1`, …), included by `wire`;
//! - `descriptors.bin`: the whole `FileDescriptorSet`, well-known types included and comments left
//!   out, for reflection and for the tests that enumerate the API.
=======
//! Compiles `proto/` without `protoc`: protox parses, tonic generates.
//!
//! The descriptors are written beside the generated code, for reflection and for the tests that
//! enumerate every RPC.
>>>>>>> main

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

<<<<<<< HEAD
/// Where the `.proto` files are; also the root that their imports are relative to.
const PROTO_ROOT: &str = "proto";

/// Messages that have a hand-written Rust type: the proto path (or a prefix of one) and that type.
const EXTERN_PATHS: &[(&str, &str)] = &[];

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo looks at every file beneath the directory.
    println!("cargo::rerun-if-changed={PROTO_ROOT}");
    println!("cargo::rerun-if-changed=build.rs");

    let mut files = Vec::new();
    find_protos(Path::new(PROTO_ROOT), &mut files)?;
    files.sort();
    if let Err(error) = generate(&files) {
        // A protox error's Debug form shows the file, the line and what is wrong with it.
        eprintln!("the files under {PROTO_ROOT}/ do not compile:\n{error:?}");
        return Err("see the message above".into());
    }
    Ok(())
}

/// Adds every `.proto` file beneath `dir`; a missing directory has none.
fn find_protos(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    if !dir.exists() {
        return Ok(());
    }
=======
use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=proto");
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
        // Events on their way to a reader stay the bytes they were stored as.
        .extern_path(".baton.v1.EventBatch", "crate::wire::EventBatch")
        .compile_fds(descriptors)?;
    Ok(())
}

fn find_protos(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
>>>>>>> main
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            find_protos(&path, files)?;
<<<<<<< HEAD
        } else if path.extension().is_some_and(|ext| ext == "proto") {
=======
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
>>>>>>> main
            files.push(path);
        }
    }
    Ok(())
}
<<<<<<< HEAD

fn generate(files: &[PathBuf]) -> Result<(), Box<dyn Error>> {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);

    // Imports of google/protobuf/*.proto are answered from the copies inside protox.
    let mut compiler = protox::Compiler::new([PROTO_ROOT])?;
    compiler.include_imports(true).open_files(files)?;

    compiler.include_source_info(false);
    fs::write(
        out_dir.join("descriptors.bin"),
        compiler.encode_file_descriptor_set(),
    )?;

    // The generated code keeps the comments: they are its documentation.
    compiler.include_source_info(true);
    let mut config = tonic_prost_build::Config::new();
    config.bytes(["."]).include_file("proto.rs");
    for (proto, rust) in EXTERN_PATHS {
        config.extern_path(*proto, *rust);
    }
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}
=======
>>>>>>> main
