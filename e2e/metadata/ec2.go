package metadata

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Endpoint is the URL of the EC2 API on a node.
const Endpoint = "http://" + Address + "/ec2"

// role is the machine's role, accessKey what its credentials are known by. The API looks at no signature.
const (
	role      = "cnitest"
	accessKey = "ASIACNITESTCNITEST00"
)

// credentialsLife is how long credentials are valid, which is longer than any lab.
const credentialsLife = 72 * time.Hour

// credentials returns those of the machine's role (EC2 User Guide, "Retrieve security credentials from instance
// metadata").
func credentials(now time.Time) string {
	text, _ := json.Marshal(map[string]string{ // cannot fail: they are strings
		"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": accessKey, "SecretAccessKey": "secret-of-the-lab",
		"Token": "token-of-the-lab", "LastUpdated": now.UTC().Format(time.RFC3339),
		"Expiration": now.Add(credentialsLife).UTC().Format(time.RFC3339),
	})
	return string(text)
}

// apiErrors are the codes of errors of the API, with their status (EC2 API Reference, "Error codes").
const (
	authFailure      = "AuthFailure"
	unauthorized     = "UnauthorizedOperation"
	invalidParameter = "InvalidParameterValue"
)

type apiError struct {
	XMLName   xml.Name `xml:"Response"`
	Code      string   `xml:"Errors>Error>Code"`
	Message   string   `xml:"Errors>Error>Message"`
	RequestID string   `xml:"RequestID"`
}

// The answer to DescribeNetworkInterfaces, as far as it concerns what differs between ENIs.
type (
	describedENIs struct {
		XMLName   xml.Name       `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DescribeNetworkInterfacesResponse"`
		RequestID string         `xml:"requestId"`
		ENIs      []describedENI `xml:"networkInterfaceSet>item"`
	}
	describedENI struct {
		ID         string           `xml:"networkInterfaceId"`
		Subnet     string           `xml:"subnetId"`
		VPC        string           `xml:"vpcId"`
		Status     string           `xml:"status"`
		MAC        string           `xml:"macAddress"`
		Address    string           `xml:"privateIpAddress,omitempty"`
		Attachment attachment       `xml:"attachment"`
		Type       string           `xml:"interfaceType"`
		Tags       []tag            `xml:"tagSet>item"`
		Addresses  []privateAddress `xml:"privateIpAddressesSet>item"`
		Prefixes   []prefix         `xml:"ipv4PrefixSet>item"`
	}
	attachment struct {
		ID       string `xml:"attachmentId"`
		Instance string `xml:"instanceId"`
		Device   int    `xml:"deviceIndex"`
		Card     int    `xml:"networkCardIndex"`
		Status   string `xml:"status"`
	}
	tag struct {
		Key   string `xml:"key"`
		Value string `xml:"value"`
	}
	privateAddress struct {
		Address string `xml:"privateIpAddress"`
		Primary bool   `xml:"primary"`
	}
	prefix struct {
		Prefix string `xml:"ipv4Prefix"`
	}
)

// serveAPI answers requests to describe ENIs and refuses all others. The filters that it knows are
// attachment.instance-id and the IDs of ENIs; it has no pages.
func (s *Service) serveAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	if err := r.ParseForm(); err != nil {
		refuse(w, http.StatusBadRequest, invalidParameter, err.Error())
		return
	}
	if !strings.Contains(r.Header.Get("Authorization"), "Credential="+accessKey+"/") {
		refuse(w, http.StatusUnauthorized, authFailure,
			"the request is not signed with credentials of the instance's role")
		return
	}
	if action := r.Form.Get("Action"); action != "DescribeNetworkInterfaces" {
		refuse(w, http.StatusForbidden, unauthorized,
			fmt.Sprintf("the lab's cloud only describes ENIs, got %q", action))
		return
	}
	s.mu.Lock()
	instance := s.instance
	s.mu.Unlock()
	found, err := selected(instance, r.Form)
	if err != nil {
		refuse(w, http.StatusBadRequest, invalidParameter, err.Error())
		return
	}
	answer(w, describedENIs{RequestID: "cnitest", ENIs: found})
}

// selected returns the ENIs that a request asks for.
func selected(i Instance, form map[string][]string) ([]describedENI, error) {
	var ids, instances []string
	filtered := false
	for key, values := range form {
		switch parts := strings.Split(key, "."); {
		case parts[0] == "NetworkInterfaceId":
			ids = append(ids, values...)
		case parts[0] == "Filter" && len(parts) == 3 && parts[2] == "Name":
			if values[0] != "attachment.instance-id" {
				return nil, fmt.Errorf("filter %q is unknown to the lab's cloud; use attachment.instance-id", values[0])
			}
			filtered = true
		case parts[0] == "Filter" && len(parts) == 4 && parts[2] == "Value":
			instances = append(instances, values...)
		}
	}
	var found []describedENI
	for _, eni := range i.ENIs {
		if (ids == nil || slices.Contains(ids, eni.ID)) && (!filtered || slices.Contains(instances, i.ID)) {
			found = append(found, i.described(eni))
		}
	}
	return found, nil
}

func (i Instance) described(eni ENI) describedENI {
	d := describedENI{
		ID: eni.ID, Subnet: i.SubnetID, VPC: i.VPCID, Status: "in-use", MAC: eni.MAC, Type: "interface",
		Attachment: attachment{
			ID: strings.Replace(eni.ID, "eni-", "eni-attach-", 1), Instance: i.ID, Device: eni.Device, Card: eni.Card(),
			Status: "attached",
		},
	}
	switch eni.Unmanaged {
	case EFAOnly, Trunk:
		d.Type = eni.Unmanaged
	case Tagged:
		d.Tags = []tag{{"node.k8s.amazonaws.com/no_manage", "true"}}
	}
	for n, address := range eni.AllAddresses() {
		if n == 0 {
			d.Address = address.String()
		}
		d.Addresses = append(d.Addresses, privateAddress{address.String(), n == 0})
	}
	for _, p := range eni.Prefixes {
		d.Prefixes = append(d.Prefixes, prefix{p.String()})
	}
	return d
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	answer(w, apiError{Code: code, Message: message, RequestID: "cnitest"})
}

func answer(w http.ResponseWriter, value any) {
	text, _ := xml.Marshal(value)      // cannot fail: all types are known
	_, _ = w.Write([]byte(xml.Header)) // the client that is gone needs no answer
	_, _ = w.Write(text)
}
