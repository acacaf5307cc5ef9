package verb

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/plugin/internal/chain"
	"github.com/cnitest/cnitest/plugin/internal/plugintest"
	"github.com/cnitest/cnitest/plugin/internal/record"
)

type state struct{}

// noRecords removes all records before a test. TestMain has given the process a /run of its own.
func noRecords(t *testing.T) {
	t.Helper()
	if plugintest.BinDir() == "" {
		t.Skip("needs root for namespaces")
	}
	if err := os.RemoveAll("/run/cni"); err != nil {
		t.Fatal(err)
	}
}

func answer(err error) string {
	var e *types.Error
	switch {
	case err == nil:
		return "success"
	case errors.As(err, &e):
		return fmt.Sprintf("%d: %s", e.Code, e.Msg)
	}
	return err.Error()
}

func TestOpen(t *testing.T) {
	noRecords(t)
	path := plugintest.NewNamespace(t, nil).Path()
	const own = "/proc/self/ns/net"
	prev := []byte(`{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.2/24"}]}`)
	for _, tt := range []struct {
		name, netns, want string
		prev              []byte
	}{
		{name: "a pod", netns: path, prev: prev, want: "success"},
		{name: "no prevResult", netns: path, want: `7: prevResult is missing: "route" works on the interface of a plugin before it; list it after that plugin`},
		{name: "no namespace", netns: "/run/gone", prev: prev, want: `4: CNI_NETNS: network namespace "/run/gone": no such file or directory`},
		{name: "the node's namespace", netns: own, prev: prev, want: `4: CNI_NETNS "/proc/self/ns/net" is the namespace of the node, want that of a pod`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conf := &chain.Config{CNIVersion: "1.1.0", Type: "route", RawPrevResult: tt.prev}
			call, err := Open(conf, &skel.CmdArgs{Netns: tt.netns})
			if got := answer(err); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if err != nil {
				return
			}
			defer call.Close()
			if len(call.Prev.IPs) != 1 || call.Pod.Is(call.Host) {
				t.Errorf("got %v and the same namespace twice: %t", call.Prev, call.Pod.Is(call.Host))
			}
		})
	}
}

func save(t *testing.T, s *record.Store[state], network, id string, sequence uint64) record.Attachment {
	t.Helper()
	a := record.Attachment{Network: network, ContainerID: id, IfName: "eth0"}
	if err := s.Save(record.Entry[state]{Attachment: a, Sequence: sequence, Created: time.Time{}}); err != nil {
		t.Fatal(err)
	}
	return a
}

func create(t *testing.T) *record.Store[state] {
	t.Helper()
	s, err := OpenStore[state]("test", true)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLoad(t *testing.T) {
	noRecords(t)
	a := record.Attachment{Network: "net", ContainerID: "a", IfName: "eth0"}
	missing := "record of attachment net/a/eth0 is missing: delete the attachment and add it again"
	if _, err := Load[state]("test", a, nil); answer(err) != missing {
		t.Errorf("no store: got %v, want %s", err, missing)
	}
	s := create(t)
	save(t, s, "net", "b", 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Load[state]("test", a, nil); answer(err) != missing {
		t.Errorf("another's record: got %v, want %s", err, missing)
	}
	s = create(t)
	save(t, s, "net", "a", 2)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	looked := false
	e, err := Load("test", a, func(s *record.Store[state], e record.Entry[state]) error {
		other, err := s.Load(record.Attachment{Network: "net", ContainerID: "b", IfName: "eth0"})
		looked = other != nil && e.Attachment == a
		return err
	})
	if err != nil || e.Attachment != a || !looked {
		t.Errorf("got %v, looked %t, %v", e, looked, err)
	}
}

func TestCollect(t *testing.T) {
	noRecords(t)
	corrupt := func(id string) {
		if err := os.WriteFile("/run/cni/test/net/"+id+"/eth0", nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name    string
		valid   []string
		corrupt []string
		stuck   string // cannot be released
		want    []string
		wantErr string
	}{
		{
			name: "some valid", valid: []string{"b"},
			want:    []string{"release net/a/eth0", "release net/c/eth0", "rest net/b/eth0 other/a/eth0 complete true"},
			wantErr: "success",
		},
		{
			name: "none valid",
			want: []string{
				"release net/a/eth0", "release net/b/eth0", "release net/c/eth0", "rest other/a/eth0 complete true",
			}, wantErr: "success",
		},
		{
			name: "valid without a record", valid: []string{"a", "b", "c", "d"},
			want: []string{"rest net/a/eth0 net/b/eth0 net/c/eth0 other/a/eth0 complete false"}, wantErr: "success",
		},
		{
			name: "valid and cannot be read", valid: []string{"a", "b", "c"}, corrupt: []string{"b"},
			want: []string{"rest net/a/eth0 net/c/eth0 other/a/eth0 complete false"}, wantErr: "success",
		},
		{
			name: "not valid and cannot be read", valid: []string{"a", "c"}, corrupt: []string{"b"},
			want: []string{"rest net/a/eth0 net/c/eth0 other/a/eth0 complete true"}, wantErr: "success",
		},
		{
			name: "one that stays in spite of it", valid: []string{"b"}, stuck: "a",
			want: []string{
				"release net/a/eth0", "release net/c/eth0", "rest net/a/eth0 net/b/eth0 other/a/eth0 complete true",
			},
			wantErr: "attachment net/a/eth0: busy",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noRecords(t)
			s := create(t)
			for i, id := range []string{"a", "b", "c"} {
				save(t, s, "net", id, uint64(i)+1)
			}
			save(t, s, "other", "a", 4)
			for _, id := range tt.corrupt {
				corrupt(id)
			}
			conf := &chain.Config{Name: "net"}
			for _, id := range tt.valid {
				conf.ValidAttachments = append(conf.ValidAttachments, types.GCAttachment{
					ContainerID: id, IfName: "eth0",
				})
			}
			var got []string
			err := Collect(s, conf, Collector[state]{
				Release: func(e record.Entry[state]) error {
					got = append(got, "release "+e.String())
					if e.ContainerID == tt.stuck {
						return errors.New("busy")
					}
					return s.Remove(e.Attachment)
				},
				Rest: func(kept []record.Entry[state], complete bool) error {
					line := "rest"
					for _, e := range kept {
						line += " " + e.String()
					}
					got = append(got, fmt.Sprintf("%s complete %t", line, complete))
					return nil
				},
			})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if answer(err) != tt.wantErr {
				t.Errorf("got %v, want %s", err, tt.wantErr)
			}
			stays, err := os.Stat("/run/cni/test/net/b")
			if wanted := len(tt.valid) > 0 && tt.name != "not valid and cannot be read"; (err == nil) != wanted {
				t.Errorf("record of b: got %v, want it to stay: %t", stays, wanted)
			}
		})
	}
}

func TestRecordable(t *testing.T) {
	noRecords(t)
	if got := answer(Recordable("test", "net")); got != "success" {
		t.Errorf("got %s, want success", got)
	}
	if err := os.WriteFile("/run/cni", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want := `50: records of network "net" cannot be written: /run/cni is a file, want a directory: remove it`
	if got := answer(Recordable("test", "net")); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A record of a newer version stays, valid or not, and so does state that no record names.
func TestCollect_newer(t *testing.T) {
	noRecords(t)
	s := create(t)
	save(t, s, "net", "a", 1)
	save(t, s, "net", "b", 2)
	const path = "/run/cni/test/net/b/eth0"
	if err := os.WriteFile(path, []byte(`{"version":2}`), 0o644); err != nil {
		t.Fatal(err)
	}
	var complete bool
	err := Collect(s, &chain.Config{Name: "net"}, Collector[state]{
		Release: func(e record.Entry[state]) error { return s.Remove(e.Attachment) },
		Rest: func(_ []record.Entry[state], all bool) error {
			complete = all
			return nil
		},
	})
	want := "record net/b/eth0: its format is 2, and this version of the plugin knows those up to 1: " +
		"call a version that knows it, or remove the record after its attachment"
	if answer(err) != want || complete {
		t.Errorf("complete %t, got  %v\nwant %s", complete, err, want)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat("/run/cni/test/net/a"); err == nil {
		t.Error("the record of a is there, want it gone")
	}
}
