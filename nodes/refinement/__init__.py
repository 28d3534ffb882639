"""CoRe Test-Time Optimize: a concept mended for one prompt."""
