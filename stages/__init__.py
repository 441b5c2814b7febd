"""One thin executable per DVC stage: parse, call one function, write outputs."""

from pipeline.core.process import start_and_end_quickly

start_and_end_quickly()
