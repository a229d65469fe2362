//! Configuration files and variables of any text: what is read is shown so that it means the same again.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Config, FlagValues, KEYS};
use crate::base::fuzz::Target;

#[test]
fn configuration() {
    let seeds = [
        "listen = \"127.0.0.1:7420\"\nmax_sessions = 10\ngrace = \"5m\"\n",
        "hosts = [\"a.example\", \"b.example\"]\n[rate]\nper_second = 500\n[requests]\nmax = 4096\n",
        "data_dir = \"/srv/x\"\nprompt_expiry = \"1h\"\ninsecure = true\n",
        "[connections]\nmax = 0x10\n[tls]\ncert = \"c\"\nkey = \"k\"\n",
    ];
    let names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    Target::new("server_config")
        .seeds(seeds)
        .words(&names)
        .weighs(4)
        .run(|bytes| {
            let Ok(text) = std::str::from_utf8(bytes) else {
                return;
            };
            let flags = FlagValues {
                data_dir: Some("/srv/baton".into()),
                ..FlagValues::default()
            };
            let nothing = BTreeMap::new();
            if let Ok(config) =
                Config::resolve(&flags, &nothing, Some((Path::new("baton.toml"), text)))
            {
                let shown = config.render();
                let again =
                    Config::resolve(&flags, &nothing, Some((Path::new("baton.toml"), &shown)));
                let again = again.unwrap_or_else(|error| panic!("{shown}: {error}"));
                assert_eq!(
                    format!("{:?}", again.options),
                    format!("{:?}", config.options),
                    "{shown}"
                );
            }
            // The same as a variable.
            let (name, value) = text.split_once('=').unwrap_or(("BATON_LISTEN", text));
            let environment: BTreeMap<String, String> =
                [(name.trim().to_owned(), value.trim().to_owned())].into();
            let _ = Config::resolve(&flags, &environment, None);
        });
}
