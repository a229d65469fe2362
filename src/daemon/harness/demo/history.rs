//! Conversations, one JSON file each, and the ids that are made from them.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The most turns that are remembered; older ones are forgotten.
const TURNS_MAX: usize = 1_000;
/// The most characters that are remembered of one text.
const TEXT_CHARS_MAX: usize = 4_096;

/// A conversation: what was asked and answered, and how many ids it has used up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Conversation {
    /// Its id, a UUID.
    pub id: String,
    ids: u64,
    turns: VecDeque<Turn>,
}

/// One turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Turn {
    inputs: Vec<Input>,
    reply: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Input {
    uuid: Option<String>,
    text: String,
}

impl Conversation {
    /// A conversation in which nothing was said.
    pub fn new(id: Uuid) -> Conversation {
        Conversation {
            id: id.to_string(),
            ids: 0,
            turns: VecDeque::new(),
        }
    }

    /// The same words under another id.
    pub fn fork(&self, id: Uuid) -> Conversation {
        Conversation {
            id: id.to_string(),
            ..self.clone()
        }
    }

    /// The next id of this conversation: the same conversation always makes the same ones.
    pub fn next_uuid(&mut self) -> String {
        self.next_bits().to_string()
    }

    fn next_bits(&mut self) -> Uuid {
        self.ids += 1;
        let digest = Sha256::digest(format!("{} {}", self.id, self.ids));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// The conversation that begins when this one is cleared.
    pub fn cleared(&mut self) -> Conversation {
        Conversation::new(self.next_bits())
    }

    /// The next id with a word in front, as the ids of messages and tool calls have.
    pub fn next_id(&mut self, prefix: &str) -> String {
        format!(
            "{prefix}_demo{}",
            &self.next_bits().simple().to_string()[..20]
        )
    }

    /// A new turn begins.
    pub fn begin(&mut self) {
        if self.turns.len() == TURNS_MAX {
            self.turns.pop_front();
        }
        self.turns.push_back(Turn {
            inputs: Vec::new(),
            reply: String::new(),
        });
    }

    /// A message was taken into the running turn.
    pub fn heard(&mut self, uuid: Option<&str>, text: &str) {
        if let Some(turn) = self.turns.back_mut() {
            turn.inputs.push(Input {
                uuid: uuid.map(str::to_owned),
                text: text.chars().take(TEXT_CHARS_MAX).collect(),
            });
        }
    }

    /// What the running turn said.
    pub fn said(&mut self, reply: &str) {
        if let Some(turn) = self.turns.back_mut() {
            turn.reply = reply.chars().take(TEXT_CHARS_MAX).collect();
        }
    }

    /// Whether a message with this id was taken up before.
    pub fn knows(&self, uuid: &str) -> bool {
        let mut inputs = self.turns.iter().flat_map(|turn| &turn.inputs);
        inputs.any(|input| input.uuid.as_deref() == Some(uuid))
    }

    /// The texts asked before the running turn, oldest first.
    pub fn recall(&self) -> Vec<&str> {
        let earlier = self.turns.len().saturating_sub(1);
        let turns = self.turns.iter().take(earlier);
        turns
            .flat_map(|turn| turn.inputs.iter().map(|input| input.text.as_str()))
            .collect()
    }
}

/// The directory of conversations.
#[derive(Debug)]
pub struct History {
    home: PathBuf,
}

impl History {
    /// The conversations in `home`, which is made when the first is kept.
    pub fn new(home: PathBuf) -> History {
        History { home }
    }

    fn file(&self, id: Uuid) -> PathBuf {
        self.home.join(format!("{id}.json"))
    }

    /// Whether there is a conversation with this id.
    pub fn has(&self, id: Uuid) -> bool {
        self.file(id).exists()
    }

    /// The conversation with this id. What is no UUID is no id, so it never reaches a path.
    pub fn load(&self, id: &str) -> Option<Conversation> {
        let id = Uuid::parse_str(id).ok()?;
        let text = fs::read(self.file(id)).ok()?;
        let mut conversation: Conversation = serde_json::from_slice(&text).ok()?;
        conversation.id = id.to_string();
        Some(conversation)
    }

    /// Keeps a conversation as it is now.
    pub fn save(&self, conversation: &Conversation) -> io::Result<()> {
        let id = Uuid::parse_str(&conversation.id).map_err(io::Error::other)?;
        make_private(&self.home)?;
        let text = serde_json::to_vec(conversation)?;
        // A reader sees the old file or the new one; the process in the name keeps two writers apart.
        let draft = self.home.join(format!("{id}.{}.draft", std::process::id()));
        fs::write(&draft, text)?;
        fs::rename(&draft, self.file(id))
    }
}

fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_comes_back_with_its_words_and_its_count_of_ids() {
        let home = tempfile::tempdir().expect("a folder");
        let history = History::new(home.path().join("deep/er"));
        let id = Uuid::from_u128(7);
        let mut conversation = Conversation::new(id);
        conversation.begin();
        conversation.heard(Some("u-1"), "hello");
        conversation.said("hi");
        let first = conversation.next_uuid();
        history.save(&conversation).expect("saved");
        let mut back = history.load(&id.to_string()).expect("found");
        assert!(back.knows("u-1") && !back.knows("u-2"));
        assert_ne!(back.next_uuid(), first);
        back.begin();
        assert_eq!(back.recall(), ["hello"]);
    }

    #[test]
    fn ids_depend_on_the_conversation_alone() {
        let mut one = Conversation::new(Uuid::from_u128(1));
        let mut same = Conversation::new(Uuid::from_u128(1));
        let mut other = Conversation::new(Uuid::from_u128(2));
        assert_eq!(one.next_id("msg"), same.next_id("msg"));
        assert_ne!(one.next_id("msg"), other.next_id("msg"));
    }

    #[test]
    fn what_is_no_id_is_not_looked_for() {
        let home = tempfile::tempdir().expect("a folder");
        fs::write(home.path().join("x.json"), "{}").expect("written");
        let history = History::new(home.path().to_owned());
        for id in ["x", "../x", ""] {
            assert!(history.load(id).is_none());
        }
    }
}
