//! `include/khonsu.h` is what cbindgen makes of `src/ffi`; it is documented throughout, compiles, and names what the
//! library exports.
//!
//! `KHONSU_UPDATE_HEADER=1 cargo test --test header` rewrites it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn header_path() -> PathBuf {
    Path::new(ROOT).join("include/khonsu.h")
}

fn committed() -> String {
    std::fs::read_to_string(header_path()).expect("include/khonsu.h can be read")
}

/// The nouns of `src/ffi`, in the order in which its root names them: that of the sections of the header.
fn nouns() -> Vec<PathBuf> {
    let folder = Path::new(ROOT).join("src/ffi");
    let root = std::fs::read_to_string(folder.join("mod.rs")).expect("src/ffi/mod.rs can be read");
    let modules = root.lines().filter_map(|line| {
        let (_, name) = line.trim_end().strip_suffix(';')?.split_once("mod ")?;
        let file = folder.join(format!("{name}.rs"));
        file.exists().then_some(file)
    });
    modules.collect()
}

fn generated() -> String {
    let mut config =
        cbindgen::Config::from_file(Path::new(ROOT).join("cbindgen.toml")).expect("cbindgen.toml is sound");
    let mut after_includes = config.after_includes.take().expect("the Arrow structs are declared there");
    let numbers = [
        ("MAJOR", "The first number of the version of this header.", env!("CARGO_PKG_VERSION_MAJOR").to_owned()),
        ("MINOR", "The second number of the version of this header.", env!("CARGO_PKG_VERSION_MINOR").to_owned()),
        ("PATCH", "The third number of the version of this header.", env!("CARGO_PKG_VERSION_PATCH").to_owned()),
        ("STRING", "The version of this header as text.", format!("\"{}\"", env!("CARGO_PKG_VERSION"))),
    ];
    for (part, meaning, value) in numbers {
        after_includes += &format!("\n/** {meaning} */\n#define KHONSU_VERSION_{part} {value}\n");
    }
    config.after_includes = Some(after_includes);
    let builder =
        nouns().iter().fold(cbindgen::Builder::new().with_config(config), |builder, file| builder.with_src(file));
    let mut text = Vec::new();
    builder.generate().expect("src/ffi can be parsed").write(&mut text);
    let text = String::from_utf8(text).expect("the header is text");
    // cbindgen leaves blanks at the end of empty comment lines.
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[test]
fn the_committed_header_is_the_generated_one() {
    let generated = generated();
    if std::env::var_os("KHONSU_UPDATE_HEADER").is_some_and(|value| value == "1") {
        std::fs::create_dir_all(Path::new(ROOT).join("include")).expect("include can be made");
        std::fs::write(header_path(), &generated).expect("include/khonsu.h can be written");
    }
    let committed = committed();
    let difference = committed.lines().zip(generated.lines()).position(|(committed, generated)| committed != generated);
    assert!(
        committed == generated,
        "include/khonsu.h is out of step with src/ffi, first at line {:?}: \
         run KHONSU_UPDATE_HEADER=1 cargo test --test header",
        difference.map(|line| line + 1)
    );
}

#[test]
fn versions_are_those_of_the_package() {
    let header = committed();
    let macro_value = |name: &str| {
        let define = format!("#define KHONSU_VERSION_{name} ");
        let mut values = header.lines().filter_map(|line| line.strip_prefix(&define));
        let value = values.next().unwrap_or_else(|| panic!("KHONSU_VERSION_{name} is defined"));
        assert_eq!(values.next(), None, "KHONSU_VERSION_{name} is defined once");
        value.to_owned()
    };
    let numbers = ["MAJOR", "MINOR", "PATCH"].map(macro_value).join(".");
    assert_eq!(numbers, env!("CARGO_PKG_VERSION"));
    assert_eq!(macro_value("STRING"), format!("\"{numbers}\""));
}

/// A declaration at the outermost level, and the comment right before it.
struct Declaration {
    comment: Option<String>,
    text: String,
}

/// The declarations of the header, preprocessor lines and the braces of `extern "C"` left out.
fn declarations(header: &str) -> Vec<Declaration> {
    let mut found = Vec::new();
    let mut comment: Option<String> = None;
    let mut lines = header.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("/*") {
            let mut text = line.to_owned();
            while !text.ends_with("*/") {
                text += "\n";
                text += lines.next().expect("comments end");
            }
            comment = text.starts_with("/**").then_some(text);
        } else if line.starts_with('#') || line.starts_with("extern \"C\"") || line == "}  // extern \"C\"" {
            // Between the comment of an enumeration and its text stands a condition on the language.
            if line.starts_with("#define") || line.starts_with("#include") {
                comment = None;
            }
        } else if !line.is_empty() {
            let mut text = line.to_owned();
            while !(text.ends_with(';') && text.matches('{').count() == text.matches('}').count()) {
                let Some(line) = lines.next() else { break };
                // An enumeration has its underlying type in C++ and in C23 only: both forms stand there.
                if !line.starts_with('#') {
                    text += "\n";
                    text += line;
                }
            }
            found.push(Declaration { comment: comment.take(), text });
        }
    }
    found
}

/// The name and the parameters of a function; None for other declarations.
fn function(declaration: &str) -> Option<(String, Vec<String>)> {
    if declaration.starts_with("typedef") || declaration.contains('{') {
        return None;
    }
    let (before, parameters) = declaration.split_once('(')?;
    let name = before.rsplit([' ', '*']).next()?.to_owned();
    let parameters = parameters.strip_suffix(");")?;
    let parameters = parameters.split(',').map(str::trim).filter(|parameter| !matches!(*parameter, "" | "void"));
    Some((name, parameters.map(|parameter| parameter.rsplit([' ', '*']).next().unwrap().to_owned()).collect()))
}

#[test]
fn every_export_is_documented() {
    let header = committed();
    let mut functions = 0;
    for declaration in declarations(&header) {
        let Some((name, parameters)) = function(&declaration.text) else { continue };
        functions += 1;
        let comment = declaration.comment.unwrap_or_else(|| panic!("{name} has no comment"));
        for required in ["Threads:", "Since:"] {
            assert!(comment.contains(required), "{name}: the comment has no \"{required}\"");
        }
        for parameter in &parameters {
            let documented = comment.lines().any(|line| {
                let mut words = line.split_whitespace().skip_while(|word| !word.starts_with("@param["));
                words.next().is_some() && words.next() == Some(parameter)
            });
            assert!(documented, "{name}: the comment does not tell about {parameter}");
        }
        let documented = comment.matches("@param[").count();
        assert_eq!(documented, parameters.len(), "{name}: the comment tells about parameters that are not there");
        if declaration.text.starts_with("khonsu_status ") && !name.starts_with("khonsu_error_status") {
            for status in ["KHONSU_STATUS_OK", "KHONSU_STATUS_PANIC", "KHONSU_STATUS_INVALID_ARGUMENT"] {
                assert!(comment.contains(&format!("- {status}: ")), "{name}: the comment does not list {status}");
            }
        }
        if !declaration.text.starts_with("void ") {
            assert!(comment.contains("@return"), "{name}: the comment does not say what it returns");
        }
    }
    assert!(functions > 50, "only {functions} functions were found: the test reads the header wrongly");
}

#[test]
fn every_type_constant_and_field_is_documented() {
    let header = committed();
    let lines: Vec<&str> = header.lines().collect();
    let mut members = 0;
    let mut inside = false;
    for (index, line) in lines.iter().enumerate() {
        let before = lines[..index].iter().rev().find(|line| !line.is_empty()).copied().unwrap_or_default();
        if line.starts_with("#define") && !line.ends_with("KHONSU_H") {
            assert!(before.ends_with("*/"), "line {}: no comment before {line}", index + 1);
        }
        match *line {
            _ if line.ends_with('{') && !line.starts_with("extern") => inside = true,
            _ if line.starts_with('}') => inside = false,
            _ if inside && line.starts_with("    ") && !line.trim_start().starts_with(['/', '*']) => {
                members += 1;
                assert!(before.ends_with("*/"), "line {}: no comment before {line}", index + 1);
            }
            _ => {}
        }
    }
    assert!(members > 40, "only {members} members were found: the test reads the header wrongly");
    let mut documented = BTreeSet::new();
    let mut types = BTreeSet::new();
    for Declaration { comment, text } in declarations(&header) {
        let words: Vec<&str> = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').collect();
        // A function's type may not be told from a type by its words; functions are the other test's matter.
        if function(&text).is_some() {
            continue;
        }
        let name = words.iter().find(|word| word.starts_with("khonsu_")).copied();
        let Some(name) = name else { continue };
        types.insert(name.to_owned());
        if comment.is_some() {
            documented.insert(name.to_owned());
        }
    }
    assert!(types.len() > 12, "only {types:?} were found: the test reads the header wrongly");
    assert_eq!(types, documented, "types without a comment");
}

#[test]
fn arrow_structs_are_only_declared() {
    let header = committed();
    for name in ["ArrowArray", "ArrowSchema", "ArrowArrayStream"] {
        assert!(header.contains(&format!("\nstruct {name};\n")), "{name} is not declared");
        assert!(!header.contains(&format!("struct {name} {{")), "{name} is defined");
    }
    assert!(!header.contains("FFI_"), "a Rust name shows");
    assert!(header.is_ascii());
}

/// Compiles with each of these that is installed, and returns how many there are.
fn compile(compilers: &[&str], arguments: &[&str], source: &Path) -> usize {
    let mut used = 0;
    for compiler in compilers {
        let mut command = Command::new(compiler);
        command
            .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I"])
            .arg(Path::new(ROOT).join("include"));
        let Ok(output) = command.args(arguments).arg(source).output() else { continue };
        used += 1;
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{compiler} {arguments:?}:\n{complaints}");
    }
    used
}

#[test]
fn the_header_compiles_alone_and_twice() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = |name: &str, text: &str| {
        let file = folder.join(name);
        std::fs::write(&file, text).expect("the folder for tests can be written");
        file
    };
    let text = "#include <khonsu.h>\n#include <khonsu.h>\n\
                int main(void) { return khonsu_status_is_retryable(KHONSU_STATUS_OK); }\n";
    let c = source("header_alone.c", text);
    let cpp = source("header_alone.cpp", text);
    for standard in ["-std=c99", "-std=c11", "-std=c17"] {
        assert_ne!(compile(&["gcc", "cc", "clang", "clang-19"], &[standard], &c), 0, "no C compiler is installed");
    }
    for standard in ["-std=c++11", "-std=c++17", "-std=c++20"] {
        assert_ne!(
            compile(&["g++", "c++", "clang++", "clang++-19"], &[standard], &cpp),
            0,
            "no C++ compiler is installed"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_library_exports_the_functions_of_the_header_and_nothing_else() {
    let tests = std::env::current_exe().expect("the test has a path");
    let folder = tests.parent().expect("it lies in a folder");
    // Cargo builds the shared library together with the test, and puts it beside or one above.
    let library = [folder.join("libkhonsu.so"), folder.join("../libkhonsu.so")].into_iter().find(|path| path.exists());
    let library = library.expect("libkhonsu.so was built with the test");
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output().expect("nm is installed");
    assert!(output.status.success(), "nm: {}", String::from_utf8_lossy(&output.stderr));
    let listing = String::from_utf8(output.stdout).expect("nm writes text");
    let exported: BTreeSet<String> =
        listing.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect();
    let declared: BTreeSet<String> = declarations(&committed())
        .iter()
        .filter_map(|declaration| function(&declaration.text))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(exported, declared);
    assert!(declared.iter().all(|name| name.starts_with("khonsu_")));
}
