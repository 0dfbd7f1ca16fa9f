//! A64 instructions: typed encode and decode.
