//! Files the agent writes: beneath its working directory, and nowhere else.

use std::fs;
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The largest picture that is shown.
const PICTURE_BYTES_MAX: u64 = 5 * 1024 * 1024;
/// The largest file that is edited instead of written anew.
const EDIT_BYTES_MAX: u64 = 64 * 1024;

/// The call that gives `file` the content `text`: an edit if the file is there, a write if not.
pub fn call(cwd: &Path, file: &str, text: &str) -> (&'static str, Value) {
    let path = cwd.join(file);
    // What a link outside leads to must not appear in the call.
    let within = cwd
        .canonicalize()
        .and_then(|root| Ok(path.canonicalize()?.starts_with(root)))
        .unwrap_or(false);
    let small = within
        && fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() <= EDIT_BYTES_MAX);
    match small.then(|| fs::read_to_string(&path)) {
        Some(Ok(old)) if !old.is_empty() => (
            "Edit",
            json!({ "file_path": path, "old_string": old, "new_string": text }),
        ),
        _ => ("Write", json!({ "file_path": path, "content": text })),
    }
}

/// Does what a `Write` or `Edit` says; gives what to report, or why it could not be done.
pub fn apply(cwd: &Path, tool: &str, input: &Value) -> Result<String, String> {
    let named = input["file_path"].as_str().ok_or("file_path is missing")?;
    let path = beneath(cwd, named)?;
    let text = if tool == "Edit" {
        let old = input["old_string"]
            .as_str()
            .ok_or("old_string is missing")?;
        let new = input["new_string"]
            .as_str()
            .ok_or("new_string is missing")?;
        let before = fs::read_to_string(&path).map_err(|problem| format!("{named}: {problem}"))?;
        if !before.contains(old) {
            return Err("String to replace not found in file.".to_owned());
        }
        before.replacen(old, new, 1)
    } else {
        let content = input["content"].as_str().ok_or("content is missing")?;
        content.to_owned()
    };
    let known = path.exists();
    fs::write(&path, text).map_err(|problem| format!("{named}: {problem}"))?;
    Ok(if known {
        format!("The file {named} has been updated successfully.")
    } else {
        format!("File created successfully at: {named}")
    })
}

/// The picture that a `Read` names, as a block of a tool's result, or why it cannot be shown.
pub fn picture(cwd: &Path, input: &Value) -> Result<Value, String> {
    let named = input["file_path"].as_str().ok_or("file_path is missing")?;
    let problem = |problem: std::io::Error| format!("{named}: {problem}");
    let root = cwd.canonicalize().map_err(problem)?;
    let path = Path::new(named).canonicalize().map_err(problem)?;
    if !path.starts_with(root) {
        return Err(format!("{named} is not beneath the working directory"));
    }
    let media_type = match path.extension().and_then(|end| end.to_str()) {
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        _ => return Err(format!("{named} is no picture: png, jpg, gif and webp are")),
    };
    if fs::metadata(&path).map_err(problem)?.len() > PICTURE_BYTES_MAX {
        return Err(format!("{named} is larger than 5 MiB"));
    }
    let data = STANDARD.encode(fs::read(&path).map_err(problem)?);
    Ok(json!({
        "type": "image",
        "source": { "type": "base64", "media_type": media_type, "data": data },
    }))
}

/// The way from `cwd` to `path`, if it leads straight down.
fn inside<'a>(cwd: &Path, path: &'a Path) -> Option<&'a Path> {
    let relative = path.strip_prefix(cwd).ok()?;
    let mut parts = relative.components();
    parts
        .all(|part| matches!(part, Component::Normal(_)))
        .then_some(relative)
}

/// The file that `named` means, with the folders it needs, if it lies beneath `cwd` once every link in its
/// path is followed.
fn beneath(cwd: &Path, named: &str) -> Result<PathBuf, String> {
    let outside = || format!("{named} is not beneath the working directory");
    let path = cwd.join(named);
    let relative = inside(cwd, &path).ok_or_else(outside)?;
    let name = relative.file_name().ok_or_else(outside)?;
    let root = cwd.canonicalize().map_err(|problem| problem.to_string())?;
    let mut folder = root.clone();
    for part in relative.parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        match fs::create_dir(&folder) {
            Err(problem) if problem.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(format!("{named}: {problem}"));
            }
            _ => {}
        }
        folder = folder
            .canonicalize()
            .map_err(|problem| format!("{named}: {problem}"))?;
        if !folder.starts_with(&root) {
            return Err(outside());
        }
    }
    let path = folder.join(name);
    // A link at the end of the path would lead the write elsewhere.
    if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink()) {
        return Err(outside());
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_shown_from_beneath_the_directory_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let cwd = folder.path().join("cwd");
        fs::create_dir(&cwd).expect("a folder");
        for place in [cwd.join("a.png"), folder.path().join("b.png")] {
            fs::write(place, [1, 2, 3]).expect("a file");
        }
        let shown = |file: &str| picture(&cwd, &json!({ "file_path": cwd.join(file) }));
        let block = shown("a.png").expect("a picture");
        assert_eq!(block["source"]["media_type"], "image/png");
        assert_eq!(block["source"]["data"], "AQID");
        for wrong in ["../b.png", "none.png", "."] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
        fs::write(cwd.join("a.txt"), "text").expect("a file");
        assert!(shown("a.txt").is_err());
    }

    #[test]
    fn a_file_is_written_then_edited() {
        let folder = tempfile::tempdir().expect("a folder");
        let cwd = folder.path();
        let (tool, input) = call(cwd, "a/b.txt", "one");
        assert_eq!(tool, "Write");
        apply(cwd, tool, &input).expect("written");
        let (tool, input) = call(cwd, "a/b.txt", "two");
        assert_eq!((tool, &input["old_string"]), ("Edit", &json!("one")));
        apply(cwd, tool, &input).expect("edited");
        assert_eq!(
            fs::read_to_string(cwd.join("a/b.txt")).expect("there"),
            "two"
        );
        assert!(apply(cwd, tool, &input).is_err(), "the old text is gone");
    }

    #[test]
    fn nothing_is_written_outside() {
        let folder = tempfile::tempdir().expect("a folder");
        let cwd = folder.path().join("in");
        fs::create_dir(&cwd).expect("a folder");
        std::os::unix::fs::symlink(folder.path(), cwd.join("link")).expect("a link");
        std::os::unix::fs::symlink(folder.path().join("out"), cwd.join("end")).expect("a link");
        for named in [
            "../out",
            "/tmp/out-of-demo",
            "link/out",
            "end",
            "a/../../out",
            "",
            ".",
        ] {
            let input = json!({ "file_path": named, "content": "x" });
            assert!(apply(&cwd, "Write", &input).is_err(), "{named}");
        }
        fs::write(folder.path().join("secret"), "s").expect("written");
        for named in ["../secret", "link/secret"] {
            assert_eq!(call(&cwd, named, "x").0, "Write", "{named}");
        }
        assert!(!folder.path().join("out").exists());
    }
}
