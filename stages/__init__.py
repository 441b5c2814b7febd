"""One thin executable per DVC stage: parse, call one function, write outputs."""
