"""CoRe Test-Time Optimize: a concept refined for one prompt."""
