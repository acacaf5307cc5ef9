package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Origin says whose the plugins under test are. It comes from the target file; what that does not say is empty.
type Origin struct {
	// Organization is who publishes them, Project their name there, URL where they are.
	Organization string `json:"organization,omitempty" yaml:"organization"`
	Project      string `json:"project,omitempty" yaml:"project"`
	URL          string `json:"url,omitempty" yaml:"url"`
	// Version is that of the project; plugins have versions of their own.
	Version string `json:"version,omitempty" yaml:"version"`
	// Contact is an address for questions about the report: of mail, or of a page.
	Contact string `json:"contact,omitempty" yaml:"contact"`
}

// Inputs are what decides which questions a run asks, so that others can repeat it.
type Inputs struct {
	// Command is the command line that runs the whole again.
	Command string `json:"command"`
	// Files are the conflist and, if the run had them, the target file and the network of --with.
	Files []InputFile `json:"files"`
	// Questions is the SHA-256 of all scenarios and requirements of the suite.
	Questions string `json:"questions"`
	// Selection says what was asked if that was not everything.
	Selection string `json:"selection,omitempty"`
	// Quick says that no plugin was killed or failed at every call, and no two calls took turns.
	Quick bool `json:"quick,omitempty"`
	// Shard is the part of the run that the report is about, "2/4"; empty for a whole run. Shards is the number of
	// parts that it was merged from; 0 for one that was not merged.
	Shard  string `json:"shard,omitempty"`
	Shards int    `json:"shards,omitempty"`
	// SHA256 is the hash of what was asked, of which plugins: InputsSum.
	SHA256 string `json:"sha256"`
}

// InputFile is a file that a run read.
type InputFile struct {
	// Name is the name of the file, for the target file and the network of --with these words.
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Text   string `json:"text"`
}

// These are the names of files that are not the conflist.
const (
	TargetInput = "target"
	WithInput   = "with"
)

// NewInputFile returns a file of a run.
func NewInputFile(name string, text []byte) InputFile {
	return InputFile{Name: name, SHA256: sum(text), Text: string(text)}
}

// InputsSum is the hash of what the run asked of which binaries, without the shard: the shards of one run have the
// same.
func (r *Report) InputsSum() string {
	inputs := Inputs{}
	if r.Inputs != nil {
		inputs = *r.Inputs
		inputs.Shard, inputs.Shards, inputs.SHA256 = "", 0, ""
	}
	return sumOf(struct {
		Inputs         Inputs
		Implementation Implementation
		Profile        string
		Backend        string
	}{inputs, r.withLists().Implementation, r.Profile, r.Backend})
}

// Sum is the hash of the document, without Digest.
func (r *Report) Sum() string {
	document := r.withLists()
	document.Digest = ""
	return sumOf(document)
}

// sumOf returns the hash of a document. All of its values can be encoded.
func sumOf(document any) string {
	text, err := json.Marshal(document)
	if err != nil {
		panic(err)
	}
	return sum(text)
}

func sum(text []byte) string {
	hash := sha256.Sum256(text)
	return hex.EncodeToString(hash[:])
}
