package conflist

import "testing"

func TestPlan_devices(t *testing.T) {
	file, err := Parse("host-device.conflist", []byte(`{
  "cniVersion": "1.1.0",
  "name": "given",
  "plugins": [{
    "type": "host-device",
    "device": "eno2",
    "ipam": {"type": "host-local", "subnet": "192.168.1.0/24"}
  }]
}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ asked, want int }{{0, 20}, {3, 3}, {20, 20}, {50, 20}} {
		plan, err := file.Plan(PlanOptions{Nodes: nodes("a", "b"), Devices: tt.asked})
		if err != nil {
			t.Fatal(err)
		}
		for _, node := range plan.Nodes {
			if len(node.Devices) != tt.want || node.PoolSize != tt.want {
				t.Errorf("asked for %d devices: want %d on node %s and as many pods, got %d and %d", tt.asked, tt.want,
					node.Name, len(node.Devices), node.PoolSize)
			}
		}
	}
}
