"""The only code that touches ComfyUI's internals: a new host release is absorbed in this folder."""
