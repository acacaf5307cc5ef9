package agent_test

import "testing"

func BenchmarkCreateNamespace(b *testing.B) {
	c := start(b)
	for b.Loop() {
		_, err := c.CreateNamespace(b.Context(), "bench")
		check(b, err)
		b.StopTimer()
		check(b, c.RemoveNamespace(b.Context(), "bench"))
		b.StartTimer()
	}
}
