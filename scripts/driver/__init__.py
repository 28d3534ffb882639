"""Starts and drives a real ComfyUI. Runs under ComfyUI's Python; used by the demo and by the tests."""
