//! Live daemon links: registry, epochs, outbox delivery, command tracking.
