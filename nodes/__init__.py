"""ComfyUI nodes. Each file holds one node: its schema, and an execute that validates, configures, calls and wraps."""
