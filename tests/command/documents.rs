//! What documents show as output is what the program prints.
//!
//! A `console` block that begins with `$ snapring simulate` is run with the configuration of the last `toml` block
//! that has a server. `SNAPRING_WRITE_DOCS=1` writes the output into the documents.

use std::path::Path;

use crate::machine::Machine;

const COMMAND: &str = "```console\n$ snapring simulate";

/// The document with the output of each command as it is now, and how many there are.
async fn with_output(machine: &Machine, document: &str) -> (String, usize) {
    let mut written = String::new();
    let mut rest = document;
    let mut commands = 0;
    while let Some(at) = rest.find(COMMAND) {
        let (before, block) = rest.split_at(at);
        written.push_str(before);
        let end = block[3..].find("```").unwrap() + 3;
        let command = block.lines().nth(1).unwrap();
        let configuration = written
            .split("```toml\n")
            .skip(1)
            .map(|text| text.split("```").next().unwrap())
            .filter(|text| text.contains("[[server]]"))
            .last()
            .unwrap_or_else(|| panic!("no configuration before {command}"));
        let of_servers: String = configuration
            .lines()
            .skip_while(|line| !line.starts_with("[defaults]") && !line.starts_with("[[server]]"))
            .map(|line| format!("{line}\n"))
            .collect();
        machine.configure(&of_servers);
        let arguments: Vec<&str> = command.split_whitespace().skip(2).collect();
        let (code, output, errors) = machine.run(&arguments);
        assert!(matches!(code, 0 | 1), "{command}: {errors}");
        written.push_str(&format!("```console\n{command}\n{output}"));
        rest = &block[end..];
        commands += 1;
    }
    written.push_str(rest);
    (written, commands)
}

#[tokio::test(flavor = "multi_thread")]
async fn output_in_documents_is_what_the_program_prints() {
    let machine = Machine::with_servers().await;
    for (name, least) in [("README.md", 1), ("docs/POLICIES.md", 9)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let document = std::fs::read_to_string(&path).unwrap();
        let (written, commands) = with_output(&machine, &document).await;
        assert!(commands >= least, "{name} has {commands}");
        if std::env::var_os("SNAPRING_WRITE_DOCS").is_some() {
            std::fs::write(&path, &written).unwrap();
        } else {
            assert_eq!(document, written, "{name}: SNAPRING_WRITE_DOCS=1 writes it again");
        }
    }
}
