package kubeapi

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestClient(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		answers := map[string]struct {
			status int
			text   string
		}{
			"GET /pod ":            {200, `{"metadata": {"name": "web"}}`},
			"POST /pods {\"a\":1}": {201, `{"metadata": {"name": "new"}}`},
			"PATCH /pod {\"a\":null}": {
				map[string]int{"application/merge-patch+json": 200}[r.Header.Get("Content-Type")], "{}",
			},
			"DELETE /pod ":  {404, `{"message": "pods \"web\" not found"}`},
			"DELETE /node ": {403, "forbidden\n"},
			"GET /busy ":    {429, ""},
		}
		answer := answers[r.Method+" "+r.URL.Path+" "+string(body)]
		if answer.status == 0 || r.Header.Get("Authorization") != "Bearer secret" {
			answer.status = http.StatusTeapot
		}
		w.WriteHeader(answer.status)
		if _, err := io.WriteString(w, answer.text); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	c := &Client{HTTP: server.Client(), URL: server.URL, Token: "secret"}
	var got struct{ Metadata struct{ Name string } }
	if err := c.Get(t.Context(), "/pod", &got); err != nil || got.Metadata.Name != "web" {
		t.Errorf("got %v, %v, want web", got, err)
	}
	if err := c.Create(t.Context(), "/pods", Object{"a": 1}, &got); err != nil || got.Metadata.Name != "new" {
		t.Errorf("got %v, %v, want new", got, err)
	}
	if err := c.Patch(t.Context(), "/pod", Object{"a": nil}); err != nil {
		t.Error(err)
	}
	if err := c.Remove(t.Context(), "/pod"); err != nil {
		t.Errorf("got %v, want no error for an object that is gone", err)
	}
	err := c.Remove(t.Context(), "/node")
	if want := "DELETE /node: 403 forbidden"; err == nil || err.Error() != want || !Refused(err) ||
		!IsStatus(err, http.StatusForbidden) {
		t.Errorf("got %v, want %s, a refusal", err, want)
	}
	if err := c.Get(t.Context(), "/busy", nil); err == nil || Refused(err) {
		t.Errorf("got %v, want an error that asks for a repetition", err)
	}
	if Refused(errors.New("connection reset")) {
		t.Error("a connection that broke is no refusal")
	}
}
