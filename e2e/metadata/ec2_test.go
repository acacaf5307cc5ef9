package metadata

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

// unmanaged returns an instance that has ENIs of all kinds.
func unmanaged() Instance {
	i := instance()
	for n, kind := range UnmanagedKinds() {
		i.ENIs = append(i.ENIs, ENI{
			ID: "eni-" + kind, Device: 2 + n, MAC: "02:00:00:00:00:2" + string(rune('0'+n)), Unmanaged: kind,
			Address:   netip.AddrFrom4([4]byte{10, 0, 1, byte(n)}),
			Secondary: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 2, byte(n)})},
		})
	}
	return i
}

// call sends a request to the API, signed as by a machine with the role's credentials unless key is empty.
func call(t *testing.T, endpoint, key string, parameters ...string) (int, string) {
	t.Helper()
	form := url.Values{}
	for _, p := range parameters {
		name, value, _ := strings.Cut(p, "=")
		form.Set(name, value)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint+"/ec2/",
		strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if key != "" {
		req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+key+"/20260101/eu-central-1/ec2/aws4_request")
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

func TestService_API(t *testing.T) {
	service := NewService(Options{})
	service.Set(unmanaged())
	server := httptest.NewServer(service)
	defer server.Close()
	const describe, own = "Action=DescribeNetworkInterfaces", "Filter.1.Name=attachment.instance-id"
	for _, tt := range []struct {
		name, key  string
		parameters []string
		status     int
		want, not  string
	}{
		{"all", accessKey, []string{describe}, 200, "<networkInterfaceId>eni-trunk</networkInterfaceId>", ""},
		{"of the machine", accessKey, []string{describe, own, "Filter.1.Value.1=i-1"}, 200, "eni-0<", ""},
		{"of another", accessKey, []string{describe, own, "Filter.1.Value.1=i-2"}, 200, "Response", "eni-0<"},
		{"a trunk", accessKey, []string{describe, "NetworkInterfaceId.1=eni-trunk"}, 200, "<interfaceType>trunk<", "eni-0<"},
		{"an EFA-only one", accessKey, []string{describe, "NetworkInterfaceId.1=eni-efa-only"}, 200, "<interfaceType>efa-only<", "privateIpAddress>"},
		{"one on another card", accessKey, []string{describe, "NetworkInterfaceId.1=eni-second-card"}, 200, "<networkCardIndex>1<", "<key>"},
		{"a tagged one", accessKey, []string{describe, "NetworkInterfaceId.1=eni-tagged"}, 200, "<key>node.k8s.amazonaws.com/no_manage</key><value>true</value>", ""},
		{"another filter", accessKey, []string{describe, "Filter.1.Name=tag-key"}, 400, "<Code>InvalidParameterValue<", ""},
		{"another action", accessKey, []string{"Action=CreateNetworkInterface"}, 403, "<Code>UnauthorizedOperation<", ""},
		{"not signed", "", []string{describe}, 401, "<Code>AuthFailure<", ""},
		{"of another role", "AKIAOTHER", []string{describe}, 401, "<Code>AuthFailure<", ""},
	} {
		status, got := call(t, server.URL, tt.key, tt.parameters...)
		if status != tt.status || !strings.Contains(got, tt.want) || tt.not != "" && strings.Contains(got, tt.not) {
			t.Errorf("%s: got %d %s, want %d and %q, not %q", tt.name, status, got, tt.status, tt.want, tt.not)
		}
	}
}

// What the metadata service tells of ENIs that are not for pods, of which it knows neither tags nor types.
func TestService_unmanaged(t *testing.T) {
	service := NewService(Options{})
	i := unmanaged()
	service.Set(i)
	server := httptest.NewServer(service)
	defer server.Close()
	for path, want := range map[string]string{
		"02:00:00:00:00:20/interface-id": "eni-efa-only", "02:00:00:00:00:20/local-ipv4s": "",
		"02:00:00:00:00:21/network-card": "1", "02:00:00:00:00:22/network-card": "0",
		"02:00:00:00:00:23/local-ipv4s": "10.0.1.3\n10.0.2.3",
	} {
		if _, got := ask(t, http.MethodGet, server.URL+"/latest/meta-data/network/interfaces/macs/"+path, nil); strings.
			TrimSpace(got) != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	if got, want := i.PoolSize(), 18; got != want {
		t.Errorf("got a pool of %d, want %d", got, want)
	}
}
