//! What an image says of itself: its manifest, its configuration and history, and the instructions of a Dockerfile
//! that change it.
