package agent

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/cnitest/cnitest/e2e/cni"
)

func TestOrder(t *testing.T) {
	request := func(verb cni.Verb, network, container string) cni.Request {
		return cni.Request{Verb: verb, Conflist: []byte(`{"name": "` + network + `"}`), ContainerID: container}
	}
	for _, tt := range []struct {
		name          string
		first, second cni.Request
		wait          bool
	}{
		{"two of one container", request(cni.Add, "net", "a"), request(cni.Del, "net", "a"), true},
		{"two of one container in two networks", request(cni.Add, "net", "a"), request(cni.Add, "other", "a"), true},
		{"two containers", request(cni.Add, "net", "a"), request(cni.Add, "net", "b"), false},
		{"GC beside ADD", request(cni.Add, "net", "a"), request(cni.GC, "net", ""), true},
		{"ADD beside GC", request(cni.GC, "net", ""), request(cni.Add, "net", "a"), true},
		{"GC of another network", request(cni.Add, "net", "a"), request(cni.GC, "other", ""), false},
		{"STATUS beside GC", request(cni.GC, "net", ""), request(cni.Status, "net", ""), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var o order
			leave := o.enter(tt.first)
			var left atomic.Bool
			entered := make(chan bool)
			go func() {
				done := o.enter(tt.second)
				entered <- left.Load()
				done()
			}()
			if tt.wait {
				// Wait long enough for the other one to enter, if it could.
				select {
				case <-entered:
					t.Fatal("got both at once, want the second to wait")
				case <-time.After(20 * time.Millisecond):
				}
			} else if <-entered {
				t.Fatal("got a second that waited, want both at once")
			}
			left.Store(true)
			leave()
			if tt.wait && !<-entered {
				t.Fatal("got the second in before the first was out")
			}
		})
	}
}
