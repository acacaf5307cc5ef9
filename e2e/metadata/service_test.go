package metadata

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func instance() Instance {
	return Instance{
		ID: "i-1", Type: "m5.large", Zone: "eu-central-1a", VPC: netip.MustParsePrefix("10.0.0.0/16"), VPCID: "vpc-1",
		Subnet: netip.MustParsePrefix("10.0.0.0/17"), SubnetID: "subnet-1",
		ENIs: []ENI{
			{
				ID: "eni-0", MAC: "02:00:00:00:00:10", Address: netip.MustParseAddr("10.0.0.4"),
				Secondary: []netip.Addr{netip.MustParseAddr("10.0.0.16"), netip.MustParseAddr("10.0.0.17")},
			},
			{
				ID: "eni-1", Device: 1, MAC: "02:00:00:00:00:11", Address: netip.MustParseAddr("10.0.0.18"),
				Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.32/28")},
				Prefix6:  netip.MustParsePrefix("2001:db8::/80"),
			},
		},
	}
}

// ask returns the status and the text of an answer.
func ask(t *testing.T, method, url string, header map[string]string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	reply, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply.StatusCode, string(text)
}

func TestService_paths(t *testing.T) {
	service := NewService(Options{})
	service.Set(instance())
	server := httptest.NewServer(service)
	defer server.Close()
	macs := "meta-data/network/interfaces/macs/"
	for path, want := range map[string]string{
		"meta-data/instance-id":                           "i-1",
		"meta-data/mac":                                   "02:00:00:00:00:10",
		"meta-data/placement/":                            "availability-zone\nregion",
		"meta-data/placement/region":                      "eu-central-1",
		macs:                                              "02:00:00:00:00:10/\n02:00:00:00:00:11/",
		macs + "02:00:00:00:00:10/local-ipv4s":            "10.0.0.4\n10.0.0.16\n10.0.0.17",
		macs + "02:00:00:00:00:11/device-number":          "1",
		macs + "02:00:00:00:00:11/ipv4-prefix":            "10.0.0.32/28",
		macs + "02:00:00:00:00:11/ipv6-prefix":            "2001:db8::/80",
		macs + "02:00:00:00:00:11/interface-id":           "eni-1",
		macs + "02:00:00:00:00:11/subnet-ipv4-cidr-block": "10.0.0.0/17",
		macs + "02:00:00:00:00:11/vpc-ipv4-cidr-blocks":   "10.0.0.0/16",
	} {
		if status, got := ask(t, http.MethodGet, server.URL+"/latest/"+path, nil); status != http.StatusOK ||
			got != want {
			t.Errorf("%s: got %d %q, want %q", path, status, got, want)
		}
	}
	for _, path := range []string{
		"", "latest/meta-data/none", "latest/" + macs + "02:00:00:00:00:10/ipv4-prefix",
		"latest/api/token", "2009-04-04/meta-data/mac",
	} {
		if status, _ := ask(t, http.MethodGet, server.URL+"/"+path, nil); status != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404", path, status)
		}
	}
	changed := instance()
	changed.ENIs = changed.ENIs[:1]
	service.Set(changed)
	if _, got := ask(t, http.MethodGet, server.URL+"/latest/"+macs, nil); got != "02:00:00:00:00:10/" {
		t.Errorf("got %q after one ENI went", got)
	}
}

func TestService_tokens(t *testing.T) {
	service := NewService(Options{Tokens: true})
	service.Set(instance())
	server := httptest.NewServer(service)
	defer server.Close()
	token, id := server.URL+"/latest/api/token", server.URL+"/latest/meta-data/instance-id"
	status, good := ask(t, http.MethodPut, token, map[string]string{ttlHeader: "60"})
	if status != http.StatusOK || good == "" {
		t.Fatalf("got %d %q, want a token", status, good)
	}
	for _, tt := range []struct {
		name, method, url string
		header            map[string]string
		want              int
	}{
		{"with a token", http.MethodGet, id, map[string]string{tokenHeader: good}, http.StatusOK},
		{"without", http.MethodGet, id, nil, http.StatusUnauthorized},
		{"with another", http.MethodGet, id, map[string]string{tokenHeader: good + "x"}, http.StatusUnauthorized},
		{"token for no time", http.MethodPut, token, nil, http.StatusBadRequest},
		{"token for too long", http.MethodPut, token, map[string]string{ttlHeader: "21601"}, http.StatusBadRequest},
		{"token by a proxy", http.MethodPut, token, map[string]string{ttlHeader: "60", "X-Forwarded-For": "10.0.0.9"}, http.StatusForbidden},
		{"token by GET", http.MethodGet, token, map[string]string{ttlHeader: "60"}, http.StatusMethodNotAllowed},
		{"write", http.MethodPut, id, map[string]string{tokenHeader: good}, http.StatusMethodNotAllowed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, _ := ask(t, tt.method, tt.url, tt.header); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestInstance_Disown(t *testing.T) {
	for address, want := range map[string]string{
		"10.0.0.17": "[10.0.0.16] []; [] [10.0.0.32/28]",
		"10.0.0.47": "[10.0.0.16 10.0.0.17] []; [] []",
		"10.0.0.4":  "", // an ENI's own
		"10.0.0.48": "",
	} {
		i := instance()
		got := ""
		if i.Disown(netip.MustParseAddr(address)) {
			got = fmt.Sprintf("%s %s; %s %s", i.ENIs[0].Secondary, i.ENIs[0].Prefixes, i.ENIs[1].Secondary,
				i.ENIs[1].Prefixes)
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", address, got, want)
		}
	}
}
