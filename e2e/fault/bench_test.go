package fault_test

import (
	"testing"

	"github.com/cnitest/cnitest/e2e/cni"
	"github.com/cnitest/cnitest/e2e/fault"
)

// BenchmarkMacvlan measures the cost of the tracer: an ADD and a DEL of macvlan with host-local, without and with it.
func BenchmarkMacvlan(b *testing.B) {
	for _, verb := range []string{"ADD", "DEL"} {
		for _, traced := range []bool{false, true} {
			name := verb + "/plain"
			if traced {
				name = verb + "/traced"
			}
			b.Run(name, func(b *testing.B) {
				m := newMacvlan(b)
				for b.Loop() {
					for _, each := range []string{"ADD", "DEL"} {
						if each != verb {
							b.StopTimer()
						}
						c := m.command(each)
						call := cni.Call{}
						if traced && each == verb {
							trace, err := fault.Observe(b.Context(), c)
							check(b, err)
							call = trace.Call
						} else {
							call = cni.Exec(b.Context(), c.Path, c.Env, c.Stdin)
						}
						if call.ExitCode != 0 {
							b.Fatal(call.Stdout)
						}
						b.StartTimer()
					}
				}
			})
		}
	}
}

func BenchmarkAvailable(b *testing.B) {
	for b.Loop() {
		check(b, fault.Available())
	}
}
