//! HTTP: every route of both listeners.
