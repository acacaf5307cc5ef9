package bench

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGiven(t *testing.T) {
	for _, tt := range []struct {
		name, result string
		want         []string
		address      string
		wantErr      string
	}{
		{
			"both families", `{"cniVersion": "1.1.0", "ips": [{"address": "fd00::5/64"}, {"address": "10.1.0.5/16"}]}`,
			[]string{"fd00::5", "10.1.0.5"},
			"10.1.0.5", "",
		},
		{"IPv6 alone", `{"cniVersion": "1.1.0", "ips": [{"address": "fd00::5/64"}]}`, []string{"fd00::5"}, "fd00::5", ""},
		{
			"an old version", `{"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/16"}}`,
			[]string{"10.1.0.5"},
			"10.1.0.5",
			"",
		},
		{"none", `{"cniVersion": "1.1.0"}`, nil, "invalid IP", "the result of ADD has no address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addresses, err := given(json.RawMessage(tt.result))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range addresses {
				got = append(got, a.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			address, err := addressOf(addresses)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if address.String() != tt.address || text != tt.wantErr {
				t.Errorf("got %s, %q, want %s, %q", address, text, tt.address, tt.wantErr)
			}
		})
	}
}

func TestIperfRate(t *testing.T) {
	for output, want := range map[string]float64{
		`{"end": {"sum_sent": {"bits_per_second": 3e9}, "sum_received": {"bits_per_second": 2.5e9}}}`: 2.5e9,
	} {
		if got, err := iperfRate([]byte(output)); err != nil || got != want {
			t.Errorf("got %g, %v, want %g", got, err, want)
		}
	}
	for output, want := range map[string]string{
		`{"end": {}, "error": "unable to connect to server"}`: "unable to connect to server",
		`iperf3: error`: "output of iperf3: invalid character 'i' looking for beginning of value",
	} {
		if _, err := iperfRate([]byte(output)); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
