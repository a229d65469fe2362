//! The only room where protobuf types and domain types meet.
