"""Human evaluation: a web app in which people compare two models' answers, blinded."""
