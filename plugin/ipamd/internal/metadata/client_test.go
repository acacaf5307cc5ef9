package metadata

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/cloud"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/imdstest"
)

func inventory() cloud.Inventory {
	return cloud.Inventory{
		InstanceID: "i-1", InstanceType: "t3.small", Region: "eu-central-1",
		VPC: []netip.Prefix{
			netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("10.1.0.0/16"),
			netip.MustParsePrefix("2001:db8::/56"),
		},
		ENIs: []cloud.ENI{{
			ID: "eni-0", MAC: "02:00:00:00:00:10", Subnet: netip.MustParsePrefix("10.0.0.0/24"),
			Address:   netip.MustParseAddr("10.0.0.10"),
			Secondary: []netip.Addr{netip.MustParseAddr("10.0.0.11"), netip.MustParseAddr("2001:db8::11")},
			SubnetID:  "subnet-0",
			Prefixes: []netip.Prefix{
				netip.MustParsePrefix("10.0.0.32/28"), netip.MustParsePrefix("2001:db8::/80"),
			},
			SecurityGroups: []string{"sg-1", "sg-2"},
		}, {
			ID: "eni-1", MAC: "02:00:00:00:00:11", Device: 1, Subnet: netip.MustParsePrefix("10.0.1.0/24"),
			Address: netip.MustParseAddr("10.0.1.10"),
		}, {
			ID: "eni-2", MAC: "02:00:00:00:00:12", Device: 1, Card: 1, // in a subnet without IPv4
		}},
	}
}

var sameAddrs = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool {
		return a == b
	}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func TestClient_Inventory(t *testing.T) {
	for _, tt := range []struct {
		name   string
		mode   imdstest.Mode
		tokens int // the client keeps one token for all requests
	}{{"with tokens", imdstest.Tokens, 1}, {"without", imdstest.NoTokens, 1}} {
		t.Run(tt.name, func(t *testing.T) {
			service := &imdstest.Service{}
			service.Answer(tt.mode)
			service.Set(inventory())
			server := httptest.NewServer(service)
			defer server.Close()
			t.Setenv("AWS_EC2_METADATA_DISABLED", "true") // affects requests of others, not ours
			client := New(Options{Endpoint: server.URL})
			got, err := client.Inventory(t.Context())
			if diff := cmp.Diff(inventory(), got, sameAddrs); diff != "" || err != nil {
				t.Errorf("(-want +got):\n%s%v", diff, err)
			}
			if n := service.Requests("/api/token"); n != tt.tokens {
				t.Errorf("got %d requests for a token, want %d", n, tt.tokens)
			}
		})
	}
}

func TestClient_Inventory_errors(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options Options
		answer  imdstest.Mode
		change  func(*cloud.Inventory)
		path    string // answered with text instead of by the service
		text    string
		want    string // the beginning of the error
	}{
		{name: "not there", answer: imdstest.Unavailable, want: "metadata: instance-id: operation error ec2imds: GetMetadata, "},
		{
			name: "tokens required", options: Options{RequireToken: true}, answer: imdstest.NoTokens,
			want: "metadata: instance-id: operation error ec2imds: GetMetadata, ",
		},
		{name: "no ENI", change: func(inv *cloud.Inventory) { inv.ENIs = nil }, want: "metadata: mac: not found"},
		{name: "no primary ENI", path: "mac", text: "02:00:00:00:00:99", want: "metadata: want an ENI with the primary MAC 02:00:00:00:00:99, got none"},
		{name: "primary ENI elsewhere", path: "mac", text: "02:00:00:00:00:11", want: "metadata: primary ENI eni-1: want device number 0, got 1"},
		{name: "ENI half attached", change: func(inv *cloud.Inventory) {
			inv.ENIs[1].ID = ""
		}, want: "metadata: network/interfaces/macs/02:00:00:00:00:11/interface-id: not found"},
		{
			name: "no number", path: "network/interfaces/macs/02:00:00:00:00:11/device-number", text: "one",
			want: `metadata: network/interfaces/macs/02:00:00:00:00:11/device-number: want a number, got "one"`,
		},
		{
			name: "no address", path: "network/interfaces/macs/02:00:00:00:00:11/local-ipv4s", text: "10.0.0.256",
			want: `metadata: network/interfaces/macs/02:00:00:00:00:11/local-ipv4s: ParseAddr("10.0.0.256"): IPv4 field has value >255`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv := inventory()
			if tt.change != nil {
				tt.change(&inv)
			}
			service := &imdstest.Service{}
			service.Answer(tt.answer)
			service.Set(inv)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tt.path != "" && r.URL.Path == "/latest/meta-data/"+tt.path {
					fmt.Fprint(w, tt.text)
					return
				}
				service.ServeHTTP(w, r)
			}))
			defer server.Close()
			tt.options.Endpoint = server.URL
			got, err := New(tt.options).Inventory(t.Context())
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if diff := cmp.Diff(cloud.Inventory{}, got, sameAddrs); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestGateway(t *testing.T) {
	if got, want := cloud.Gateway(netip.MustParsePrefix("10.0.1.17/24")).String(), "10.0.1.1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
