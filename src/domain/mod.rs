//! Plain types and rules per noun; sans-IO state machines. No tokio, no protobuf, no IO.
