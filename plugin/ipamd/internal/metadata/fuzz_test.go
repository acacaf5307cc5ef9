package metadata

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// FuzzInventory checks that whatever the metadata service answers gives an inventory or an error: the answers are the
// input's parts, and an empty part is one that the service does not have.
func FuzzInventory(f *testing.F) {
	f.Add("i-1|m5.large|eu-west-1|02:00:00:00:00:01|02:00:00:00:00:01/|eni-1|0|0|subnet-1|sg-1|10.0.0.0/24|10.0.0.5 10.0.0.6|" +
		"|10.0.0.16/28||10.0.0.0/16|")
	f.Add("i-1|||02:00:00:00:00:01|../../token/ 02:00:00:00:00:01/|eni-1|-1")
	var mu sync.Mutex
	var parts []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasSuffix(r.URL.Path, "/api/token") || len(parts) == 0 || parts[0] == "" {
			if len(parts) > 0 && !strings.HasSuffix(r.URL.Path, "/api/token") {
				parts = parts[1:]
			}
			http.Error(w, "", http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(parts[0]))
		parts = parts[1:]
	}))
	f.Cleanup(server.Close)
	client := New(Options{Endpoint: server.URL})
	f.Fuzz(func(t *testing.T, answers string) {
		if len(answers) > 4<<10 {
			return // each part is a request
		}
		mu.Lock()
		parts = strings.Split(answers, "|")
		mu.Unlock()
		inventory, err := client.Inventory(t.Context())
		if err == nil && (len(inventory.ENIs) == 0 || !inventory.ENIs[0].Primary()) {
			t.Errorf("got %v, want the primary ENI first", inventory)
		}
	})
}
