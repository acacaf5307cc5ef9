package netns_test

import (
	"testing"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/cluster"
)

// A cluster gets the fabric of one that was closed, but only when nothing of that is left in it.
func TestFabric_used_again(t *testing.T) {
	shared, req := backend(), request(t, macvlanConflist, 2)
	req.Alone = true
	first := startOn(t, shared, req)
	fabric := first.Fabric().Agent
	if other := startOn(t, shared, req); other.Fabric().Agent == fabric {
		t.Fatal("two open clusters have one fabric")
	}
	// As a requirement would do that forgets something there.
	check(t, fabric.AddBridge(ctx(t), agent.ObstacleArgs{Name: "left"}))
	check(t, first.Close())
	if other := startOn(t, shared, req); other.Fabric().Agent == fabric {
		t.Error("a cluster has the fabric in which something was left")
	}

	closed := map[*agent.Client]bool{}
	for end := time.Now().Add(patience); ; {
		c := startOn(t, shared, req)
		fabric := c.Fabric().Agent
		if closed[fabric] {
			reach(t, &c.Nodes()[0].Place, &c.Nodes()[1].Place)
			return
		}
		// The cables of those before were still there when it started.
		closed[fabric] = true
		check(t, c.Close())
		if time.Now().After(end) {
			t.Fatalf("no cluster got the fabric of one of %d others", len(closed))
		}
	}
}

func startOn(t *testing.T, backend cluster.Backend, req cluster.Request) cluster.Cluster {
	t.Helper()
	c, err := backend.Start(ctx(t), req)
	check(t, err)
	t.Cleanup(func() { check(t, c.Close()) })
	return c
}
