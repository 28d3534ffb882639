"""The workflows of the template browser, written down by the names of inputs and made into the editor's files."""
