package conflist

import (
	"strings"
	"testing"
)

func TestFile_At(t *testing.T) {
	for _, tt := range []struct{ versions, runtime, want string }{
		{`"cniVersion": "1.1.0"`, "0.4.0", "0.4.0"},
		{`"cniVersion": "0.3.1"`, "0.4.0", "0.3.1"},
		{`"cniVersion": "1.1.0"`, "1.1.0", "1.1.0"},
		{`"cniVersion": "1.1.0", "cniVersions": ["0.3.1", "1.0.0", "1.1.0"]`, "1.0.0", "1.0.0"},
		{`"cniVersion": "1.1.0", "cniVersions": ["0.3.1", "1.1.0"]`, "0.4.0", "0.3.1"},
		{`"cniVersions": ["1.0.0", "1.1.0"]`, "0.2.0", "0.2.0"},
	} {
		file, err := Parse("net.conflist", []byte(`{`+tt.versions+`, "name": "net", "plugins": [{"type": "macvlan",
			"master": "eno1", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/16"}]]}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		at, err := file.At(tt.runtime)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := at.Plan(PlanOptions{Nodes: []PlanNode{{Name: "a"}}})
		if err != nil {
			t.Fatal(err)
		}
		text := string(plan.Nodes[0].Conflist)
		if at.CNIVersion != tt.want || !strings.Contains(text, `"cniVersion": "`+tt.want+`"`) ||
			strings.Contains(text, "cniVersions") {
			t.Errorf("%s at %s: got %q and\n%s\nwant %s alone", tt.versions, tt.runtime, at.CNIVersion, text, tt.want)
		}
		if v, old := at.Runtime(); !old || v != tt.want {
			t.Errorf("%s at %s: got %q, %v", tt.versions, tt.runtime, v, old)
		}
		if _, old := file.Runtime(); old {
			t.Errorf("%s at %s: the file itself is changed", tt.versions, tt.runtime)
		}
	}
	if _, err := (&File{}).At("0.9.0"); err == nil {
		t.Error("0.9.0: got no error")
	}
}
