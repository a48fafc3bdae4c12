package main

import (
	"encoding/json"
	"net/http"
)

// review is what this webhook needs of an admission.k8s.io/v1 AdmissionReview.
type review struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Request    *struct {
		UID    string `json:"uid"`
		Object struct {
			Data map[string]string `json:"data"`
		} `json:"object"`
	} `json:"request,omitempty"`
	Response *verdict `json:"response,omitempty"`
}

type verdict struct {
	UID     string  `json:"uid"`
	Allowed bool    `json:"allowed"`
	Status  *status `json:"status,omitempty"`
}

type status struct {
	Message string `json:"message"`
}

// validate refuses a ConfigMap that has the key "forbidden".
func validate(w http.ResponseWriter, r *http.Request) {
	var in review
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Request == nil {
		http.Error(w, "not an AdmissionReview", http.StatusBadRequest)
		return
	}
	out := review{APIVersion: in.APIVersion, Kind: in.Kind, Response: &verdict{UID: in.Request.UID, Allowed: true}}
	if _, found := in.Request.Object.Data["forbidden"]; found {
		out.Response.Allowed = false
		out.Response.Status = &status{Message: "the key forbidden is forbidden"}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}

// whoAsks is an aggregated API that tells for whom the API server asks, and
// with which certificate.
func whoAsks(w http.ResponseWriter, r *http.Request) {
	answer := map[string]string{"user": r.Header.Get("X-Remote-User"), "path": r.URL.Path}
	if len(r.TLS.PeerCertificates) > 0 {
		answer["certificate"] = r.TLS.PeerCertificates[0].Subject.CommonName
		answer["issuer"] = r.TLS.PeerCertificates[0].Issuer.CommonName
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}
