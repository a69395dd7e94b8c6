"""An app that does nothing: what it costs is what the Functions host costs."""
