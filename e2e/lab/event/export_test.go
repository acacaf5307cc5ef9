package event

// OnLostThread is for tests, which do everything in namespaces of their own.
func OnLostThread(f func() error) { _ = onLostThread(f) }
