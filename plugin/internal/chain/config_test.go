package chain

import (
	"encoding/json"
	"net"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/plugin/internal/record"
)

func TestPrevResult(t *testing.T) {
	v4 := net.IPNet{IP: net.ParseIP("10.0.0.2"), Mask: net.CIDRMask(24, 32)}
	v6 := net.IPNet{IP: net.ParseIP("fd00::2"), Mask: net.CIDRMask(64, 128)}
	for _, tt := range []struct {
		name, in string
		want     *current.Result
		wantErr  string
	}{
		{name: "none", in: `{}`},
		{name: "null", in: `{"prevResult":null}`},
		{
			name: "0.1.0",
			in:   `{"cniVersion":"0.1.0","prevResult":{"ip4":{"ip":"10.0.0.2/24"},"ip6":{"ip":"fd00::2/64"},"dns":{}}}`,
			want: &current.Result{
				CNIVersion: "1.1.0", IPs: []*current.IPConfig{{Address: v4}, {Address: v6}}, Routes: []*types.Route{},
			},
		},
		{
			name: "no cniVersion anywhere", in: `{"prevResult":{"ip4":{"ip":"10.0.0.2/24"}}}`,
			want: &current.Result{
				CNIVersion: "1.1.0", IPs: []*current.IPConfig{{Address: v4}}, Routes: []*types.Route{},
			},
		},
		{
			name: "0.4.0",
			in: `{"cniVersion":"0.4.0","prevResult":{"cniVersion":"0.4.0","interfaces":[{"name":"eth0","sandbox":"/x"}],` +
				`"ips":[{"version":"4","address":"10.0.0.2/24","interface":0}]}}`,
			want: &current.Result{
				CNIVersion: "1.1.0", Interfaces: []*current.Interface{{Name: "eth0", Sandbox: "/x"}},
				IPs: []*current.IPConfig{{Address: v4, Interface: current.Int(0)}}, Routes: []*types.Route{},
			},
		},
		{
			name: "1.1.0 without its version",
			in:   `{"cniVersion":"1.1.0","prevResult":{"ips":[{"address":"fd00::2/64"}]}}`,
			want: &current.Result{CNIVersion: "1.1.0", IPs: []*current.IPConfig{{Address: v6}}},
		},
		{
			name: "result older than the configuration",
			in:   `{"cniVersion":"1.0.0","prevResult":{"cniVersion":"0.3.1","ips":[{"version":"6","address":"fd00::2/64"}]}}`,
			want: &current.Result{
				CNIVersion: "1.1.0", IPs: []*current.IPConfig{{Address: v6}}, Routes: []*types.Route{},
			},
		},
		{
			name: "text", in: `{"prevResult":"x"}`,
			wantErr: `prevResult: json: cannot unmarshal string into Go value of type chain.versioned`,
		},
		{name: "unknown version", in: `{"prevResult":{"cniVersion":"9.9.9"}}`, wantErr: `prevResult: unsupported CNI result version "9.9.9"`},
		{
			name: "address that is none", in: `{"cniVersion":"1.1.0","prevResult":{"ips":[{"address":"10.0.0.2"}]}}`,
			wantErr: "prevResult: invalid CIDR address: 10.0.0.2",
		},
		{name: "no address", in: `{"cniVersion":"1.1.0","prevResult":{"ips":[{}]}}`, wantErr: "prevResult: an entry of ips has no address"},
		{name: "interface that is null", in: `{"cniVersion":"1.1.0","prevResult":{"interfaces":[null]}}`, wantErr: "prevResult: interfaces[0] is null"},
		{
			name:    "interface out of range",
			in:      `{"cniVersion":"1.1.0","prevResult":{"ips":[{"address":"10.0.0.2/24","interface":-1}]}}`,
			wantErr: "prevResult: address 10.0.0.2/24 is on interface -1, and there are 0 interfaces",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var conf Config
			if err := json.Unmarshal([]byte(tt.in), &conf); err != nil {
				t.Fatal(err)
			}
			got, err := conf.PrevResult()
			if text := errorText(err); text != tt.wantErr {
				t.Errorf("got  %s\nwant %s", text, tt.wantErr)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestRequirePrevResult(t *testing.T) {
	for in, want := range map[string]*types.Error{
		`{"type":"route"}`: {
			Code: 7,
			Msg: `prevResult is missing: "route" works on the interface of a plugin before it; list it after that ` +
				`plugin`,
		},
		`{"prevResult":{"cniVersion":"9.9.9"}}`: {Code: 7, Msg: `prevResult: unsupported CNI result version "9.9.9"`},
	} {
		var conf Config
		if err := json.Unmarshal([]byte(in), &conf); err != nil {
			t.Fatal(err)
		}
		_, err := conf.RequirePrevResult()
		if diff := cmp.Diff(error(want), err); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestIsValid(t *testing.T) {
	conf := Config{Name: "net", ValidAttachments: []types.GCAttachment{{ContainerID: "a", IfName: "eth0"}}}
	for a, want := range map[record.Attachment]bool{
		conf.Attachment(&skel.CmdArgs{ContainerID: "a", IfName: "eth0"}): true,
		{Network: "net", ContainerID: "a", IfName: "net1"}:               false,
		{Network: "net", ContainerID: "b", IfName: "eth0"}:               false,
		{Network: "other", ContainerID: "b", IfName: "eth0"}:             true,
	} {
		if got := conf.IsValid(a); got != want {
			t.Errorf("%s: got %t, want %t", a, got, want)
		}
	}
}

func TestErrors(t *testing.T) {
	for code, err := range map[uint]*types.Error{
		4: BadEnvironment("CNI_NETNS %q", "x"), 7: BadConfig("CNI_NETNS %q", "x"), 11: TryAgain("CNI_NETNS %q", "x"),
		50: NotAvailable("CNI_NETNS %q", "x"),
	} {
		if diff := cmp.Diff(types.NewError(code, `CNI_NETNS "x"`, ""), err); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
