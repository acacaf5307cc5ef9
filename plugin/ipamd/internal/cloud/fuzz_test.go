package cloud

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
)

// FuzzAnswers checks that any answer of EC2 to any request is understood or an error.
func FuzzAnswers(f *testing.F) {
	f.Setenv("AWS_ACCESS_KEY_ID", "key-of-the-test")
	f.Setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
	f.Setenv("AWS_MAX_ATTEMPTS", "1")
	files, err := filepath.Glob("testdata/*.xml")
	if err != nil || len(files) == 0 {
		f.Fatalf("got %d recorded answers, %v", len(files), err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte("<CreateNetworkInterfaceResponse/>"))
	var answer atomic.Pointer[[]byte]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/xml")
		_, _ = w.Write(*answer.Load())
	}))
	defer server.Close()
	inv := Inventory{
		InstanceID: "i-1", InstanceType: "t3.small", Region: "eu-central-1", ENIs: []ENI{{ID: "eni-0"}},
	}
	log := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, data []byte) {
		answer.Store(&data)
		ctx := context.Background()
		e := NewEC2(EC2Options{Endpoint: server.URL, Log: log})
		if err := e.connect(ctx, inv); err != nil && e.client == nil {
			t.Fatal(err)
		}
		pool := datastore.New(datastore.Options{})
		_ = e.assign(ctx, "eni-0", 2)
		_ = e.attach(ctx, inv, 2)
		_, _ = e.detach(ctx, inv, "eni-0", pool)
		e.detached["eni-1"] = true
		e.deleteDetached(ctx)
		d := NewDescribed(DescribedOptions{Endpoint: server.URL, Log: log})
		_ = d.describe(ctx, inv)
	})
}
